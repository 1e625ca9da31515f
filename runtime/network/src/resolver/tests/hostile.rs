//! Messages that nobody honest sends.

use std::io::Read as _;

use super::super::message::{Code, Malformed, Query, code, refusal as refuse};
use super::*;

#[test]
fn spoofed_answers_are_not_believed() {
    // Everything wrong first, the right one last.
    let upstream = server(|query, by_connection| {
        let right = answer(query, 1);
        if by_connection {
            return vec![right];
        }
        let wrong = |change: fn(&mut Vec<u8>)| {
            let mut message = answer(query, 66);
            change(&mut message);
            message
        };
        vec![
            wrong(|message| message[0] ^= 1),
            wrong(|message| message[1] ^= 0x80),
            wrong(|message| message[2] &= 0x7F),
            wrong(|message| message[2] |= 0x20),
            wrong(|message| message[5] = 0),
            wrong(|message| message[13] = b'X'),
            wrong(|message| {
                let end = question_end(message);
                message[end - 3] = 28;
            }),
            wrong(|message| message.truncate(20)),
            wrong(Vec::clear),
            // Another case of letters is no other name.
            [&right[..13], b"EXAMPLE", &right[20..]].concat(),
        ]
    });
    let resolver = Running::start(&[upstream]);
    assert_eq!(data(&resolver.ask(&question(1, "example.com", 1))), [[10, 0, 0, 1]]);
}

#[test]
fn answers_of_others_than_the_server_are_not_believed() {
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = Running::start(&[upstream.local_addr().unwrap()]);
    let client = resolver.client();
    client.send(&question(1, "example.com", 1)).unwrap();
    let mut query = [0; 512];
    let (length, from) = upstream.recv_from(&mut query).unwrap();
    // It knows id and port, and is still not the server.
    let _ = stranger.send_to(&answer(&query[..length], 66), from);
    upstream.send_to(&answer(&query[..length], 1), from).unwrap();
    assert_eq!(data(&receive(&client)), [[10, 0, 0, 1]]);
}

#[test]
fn malformed_queries_are_dropped_or_refused() {
    let parse = |message: &[u8]| Query::parse(message).map(|_| ());
    let wrong = Err(Malformed::Answered(Code::FormatError));
    let with_name = |name: &[u8]| [&question(1, "", 1)[..12], name, &[0, 1, 0, 1]].concat();
    assert_eq!(parse(&[]), Err(Malformed::Dropped));
    assert_eq!(parse(&[0; 11]), Err(Malformed::Dropped));
    assert_eq!(parse(&answer(&question(1, "a", 1), 1)), Err(Malformed::Dropped));
    assert_eq!(parse(&with_name(&[0xC0, 12])), wrong, "a pointer to itself");
    assert_eq!(parse(&with_name(&[1, b'a', 0xC0, 12])), wrong, "a loop");
    assert_eq!(parse(&with_name(&[0xFF, 0xFF])), wrong);
    assert_eq!(parse(&with_name(&[64; 70])), wrong, "a label of 64 bytes");
    assert_eq!(parse(&with_name(&[[1, b'a'].repeat(128), vec![0]].concat())), wrong, "a name of 257 bytes");
    assert_eq!(parse(&with_name(&[[1, b'a'].repeat(127), vec![0]].concat())), Ok(()), "a name of 255 bytes");
    let whole = question(1, "example.com", 1);
    assert_eq!(parse(&whole), Ok(()));
    for length in 12..whole.len() {
        assert_eq!(parse(&whole[..length]), wrong, "{length}");
    }
    let mut two = whole.clone();
    two[5] = 2;
    assert_eq!(parse(&two), wrong);
    let mut update = whole;
    update[2] = 5 << 3;
    assert_eq!(parse(&update), Err(Malformed::Answered(Code::NotImplemented)));
    // Names that only look like a container's.
    for label in [&b"\x03w.b"[..], b"\x04we b", b"\x03w\0b", b"\x03w\xffb"] {
        let message = with_name(&[label, &[0]].concat());
        assert_eq!(Query::parse(&message).unwrap().name(), None);
    }
}

/// Changes a message a little, or a lot.
fn mutate(numbers: &mut Numbers, message: &mut Vec<u8>) {
    for _ in 0..1 + numbers.below(6) {
        let at = numbers.below(message.len().max(1));
        match numbers.below(6) {
            0 => message.truncate(at),
            1 => message.insert(at.min(message.len()), numbers.below(256) as u8),
            2 => message.extend((0..numbers.below(300)).map(|byte| byte as u8)),
            3 if !message.is_empty() => message[at] = 0xC0,
            _ if !message.is_empty() => message[at] = numbers.below(256) as u8,
            _ => {}
        }
    }
}

#[test]
fn a_hundred_thousand_mutated_messages_do_no_harm() {
    let mut numbers = Numbers(6);
    let address = ["172.18.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    let (mut well_formed, mut matched) = (0, 0);
    let seeds = [
        question(1, "web", 1),
        with_edns(question(1, "both.example.com", 28), 4096),
        question(1, "2.0.18.172.in-addr.arpa", 12),
        question(1, "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", 12),
    ];
    for round in 0..100_000 {
        let seed = &seeds[round % seeds.len()];
        let mut message = seed.clone();
        mutate(&mut numbers, &mut message);
        if let Ok(query) = Query::parse(&message) {
            well_formed += 1;
            query.name();
            query.reversed_address();
            for datagram in [true, false] {
                let response = query.addresses(&address, datagram);
                assert!(response.len() <= message.len().max(512) + 40);
                assert!(query.is_answered_by(u16::from_be_bytes([message[0], message[1]]), &response));
            }
            query.pointer("web.net");
            query.response(Code::Refused);
        }
        refuse(&message, Code::FormatError);
        let mut response = answer(seed, 1);
        mutate(&mut numbers, &mut response);
        code(&response);
        matched += usize::from(Query::parse(seed).unwrap().is_answered_by(1, &response));
    }
    // Otherwise the mutations would test nothing but the first check.
    assert!(well_formed > 5_000 && well_formed < 95_000, "{well_formed}");
    assert!(matched > 5_000 && matched < 95_000, "{matched}");
}

#[test]
fn a_resolver_outlives_mutated_messages_from_both_sides() {
    let upstream = server(|query, _| {
        let mut numbers = Numbers(query.iter().fold(1, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte)));
        let mut response = answer(query, 1);
        mutate(&mut numbers, &mut response);
        vec![response, refusal(query, 3)]
    });
    let resolver = Running::start(&[upstream]);
    let mut numbers = Numbers(1);
    let client = resolver.client();
    for round in 0..3000 {
        let mut message = question(round, if round % 2 == 0 { "web" } else { "a.example.com" }, 1);
        mutate(&mut numbers, &mut message);
        client.send(&message).unwrap();
        if round % 100 == 0 {
            let mut stream = resolver.connection();
            stream.write_all(&message).unwrap();
            assert_eq!(data(&resolver.ask(&question(round, "web", 1))).len(), 1);
        }
    }
    // Lengths that promise too much, and a message that never becomes whole.
    for bytes in [&[0xFF, 0xFF, 1][..], &[0, 0], &[0, 5, 1, 2, 3, 4, 5]] {
        let mut stream = resolver.connection();
        stream.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        assert!(matches!(stream.read_to_end(&mut rest), Ok(0) | Err(_)) && rest.is_empty());
    }
    let mut unfinished = resolver.connection();
    unfinished.write_all(&[0, 200, 1]).unwrap();
    assert_eq!(data(&resolver.ask(&question(1, "web", 1))).len(), 1);
}

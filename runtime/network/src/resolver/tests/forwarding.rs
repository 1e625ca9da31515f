//! Questions that go to the host's servers.

use std::net::Shutdown;
use std::sync::mpsc;

use super::*;

#[test]
fn messages_pass_with_another_id_and_port() {
    let (seen, queries) = mpsc::channel();
    let upstream = server(move |query, _| {
        seen.send(query.to_vec()).unwrap();
        vec![answer(query, 1)]
    });
    let resolver = Running::start(&[upstream]);
    let query = with_edns(question(77, "example.com", 1), 1400);
    let mut ids = std::collections::HashSet::new();
    for _ in 0..20 {
        let response = resolver.ask(&query);
        assert_eq!(response[..2], 77_u16.to_be_bytes());
        assert_eq!(data(&response), [[10, 0, 0, 1]]);
        let passed = queries.recv().unwrap();
        assert_eq!(passed[2..], query[2..]);
        ids.insert(passed[..2].to_vec());
    }
    assert!(ids.len() > 15, "{ids:?}");
}

#[test]
fn a_server_that_cannot_answer_is_passed_over() {
    let good = server(|query, _| vec![answer(query, 2)]);
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // SERVFAIL, NOTIMP, REFUSED; and one that is not there.
    for bad in [2, 4, 5].map(|code| server(move |query, _| vec![refusal(query, code)])).into_iter().chain([closed]) {
        let resolver = Running::start(&[bad, good]);
        assert_eq!(data(&resolver.ask(&question(1, "example.com", 1))), [[10, 0, 0, 2]]);
        let mut stream = resolver.connection();
        send_framed(&mut stream, &question(1, "example.com", 1));
        assert_eq!(data(&receive_framed(&mut stream).unwrap()), [[10, 0, 0, 2]]);
    }
    // "No such name" is an answer, and what the last server says too.
    let resolver = Running::start(&[server(|query, _| vec![refusal(query, 3)]), good]);
    assert_eq!(read(&resolver.ask(&question(1, "example.com", 1))).0, 3);
    let resolver = Running::start(&[server(|query, _| vec![refusal(query, 5)])]);
    assert_eq!(read(&resolver.ask(&question(1, "example.com", 1))).0, 5);
}

#[test]
fn a_server_that_is_silent_is_passed_over_and_all_silent_is_a_failure() {
    let ((_kept, silent_one), (_kept_too, silent_two)) = (silent(), silent());
    let good = server(|query, _| vec![answer(query, 3)]);
    let resolver = Running::start(&[silent_one, good]);
    let failing = Running::start(&[silent_one, silent_two]);
    let client = failing.client();
    client.send(&question(5, "example.com", 1)).unwrap();
    assert_eq!(data(&resolver.ask(&question(1, "example.com", 1))), [[10, 0, 0, 3]]);
    let response = receive(&client);
    assert_eq!((response[1], read(&response).0), (5, 2));
}

#[test]
fn no_servers_is_a_failure_at_once_but_names_are_known() {
    let resolver = Running::start(&[]);
    assert_eq!(read(&resolver.ask(&question(1, "example.com", 1))).0, 2);
    assert_eq!(data(&resolver.ask(&question(1, "web", 1))).len(), 1);
}

#[test]
fn what_is_cut_is_asked_for_again_by_a_connection() {
    let upstream = server(|query, by_connection| {
        let mut response = answer(query, 4);
        if by_connection {
            response[7] = 0;
            let records = 3000_u16;
            response[6..8].copy_from_slice(&records.to_be_bytes());
            let record = response[response.len() - 16..].to_vec();
            response.extend(record.repeat(usize::from(records) - 1));
        } else {
            response[2] |= 2;
        }
        vec![response]
    });
    let resolver = Running::start(&[upstream]);
    assert!(read(&resolver.ask(&question(1, "example.com", 1))).1);
    let mut stream = resolver.connection();
    // Several questions at once, and an end behind them.
    for id in 0..5 {
        send_framed(&mut stream, &question(id, if id % 2 == 0 { "example.com" } else { "web" }, 1));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    for id in 0..5_u16 {
        let response = receive_framed(&mut stream).unwrap();
        assert_eq!(response[..2], id.to_be_bytes());
        assert_eq!(data(&response).len(), if id % 2 == 0 { 3000 } else { 1 });
    }
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn only_so_many_questions_are_open() {
    let (_kept, silent) = silent();
    let resolver = Running::start(&[silent]);
    let client = resolver.client();
    for id in 0..300 {
        client.send(&question(id, "example.com", 1)).unwrap();
        // The same again is the same question.
        client.send(&question(id, "example.com", 1)).unwrap();
        if id % 20 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    // Those beyond are told at once; that is, before the first of the others.
    let response = receive(&client);
    assert_eq!(u16::from_be_bytes([response[0], response[1]]), 256);
    assert_eq!(read(&response).0, 2);
    // Names are known all the same.
    assert_eq!(data(&resolver.ask(&question(1, "web", 1))).len(), 1);
}

#[test]
fn connections_that_say_nothing_make_room() {
    let resolver = Running::start(&[]);
    let mut idle: Vec<TcpStream> = (0..100).map(|_| resolver.connection()).collect();
    let mut stream = resolver.connection();
    send_framed(&mut stream, &question(1, "web", 1));
    assert_eq!(data(&receive_framed(&mut stream).unwrap()).len(), 1);
    assert!(matches!(idle[0].read(&mut [0; 1]), Ok(0) | Err(_)));
}

use super::*;

#[test]
fn messages_are_numbered_padded_and_as_long_as_they_say() {
    let mut batch = Batch::default();
    batch.message(16, CREATE, &[1, 2, 3, 4], |values| {
        values.text(3, "lo");
        values.nest(18, |inner| inner.number_to_network(1, 7));
    });
    let second = batch.message(18, 0, &[], |_| {});
    batch.acknowledge(second);
    #[rustfmt::skip]
    let expected = [
        // Length, type, flags, number, sender.
        40, 0, 0, 0, 16, 0, 0x01, 0x04, 9, 0, 0, 0, 0, 0, 0, 0,
        1, 2, 3, 4,
        7, 0, 3, 0, b'l', b'o', 0, 0,
        12, 0, 18, 0x80, 8, 0, 1, 0, 0, 0, 0, 7,
        16, 0, 0, 0, 18, 0, 0x05, 0, 10, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(batch.numbered(9), expected);
}

#[test]
fn attributes_are_read_as_they_were_written_and_broken_ones_end_the_list() {
    let mut batch = Batch::default();
    batch.message(0, 0, &[], |values| {
        values.text(3, "cove0");
        values.nest_behind(18, &[9; 4], |inner| inner.number(1, 77));
    });
    let bytes = &batch.numbered(0)[16..];
    assert_eq!(text(attribute(bytes, 3).unwrap()), b"cove0");
    let nested = attribute(bytes, 18).unwrap();
    assert_eq!(nested[..4], [9; 4]);
    assert_eq!(number(attribute(&nested[4..], 1).unwrap()), Some(77));
    assert_eq!(attribute(bytes, 4), None);
    for broken in [&[3, 0, 0, 0][..], &[0, 0, 1, 0], &[200, 0, 1, 0, 5], &[5], &[]] {
        assert_eq!(attributes(broken).count(), 0, "{broken:?}");
    }
}

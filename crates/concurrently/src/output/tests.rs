//! How texts of several sources become one.

use super::*;

fn text(stream: &Stream) -> &str {
    std::str::from_utf8(&stream.bytes).unwrap()
}

#[test]
fn each_line_has_its_prefix_and_a_final_newline_has_none() {
    let mut stream = Stream::default();
    stream.add(Source::Command(0), "[0] ", b"x\n\ny\n");
    assert_eq!(text(&stream), "[0] x\n[0] \n[0] y\n");
    assert_eq!(stream.open, None);
}

#[test]
fn an_unfinished_line_is_continued_by_its_source_and_broken_off_by_others() {
    let mut stream = Stream::default();
    stream.add(Source::Command(0), "[0] ", b"a");
    stream.add(Source::Command(0), "[0] ", b"b");
    stream.add(Source::Command(1), "[1] ", b"c\n");
    stream.add(Source::Global, "--> ", b"d\n");
    assert_eq!(text(&stream), "[0] ab\n[1] c\n--> d\n");
}

#[test]
fn ellipses_become_dots() {
    assert_eq!(&*without_ellipsis("a…b……".as_bytes()), b"a...b......");
    assert_eq!(&*without_ellipsis("é".as_bytes()), "é".as_bytes());
}

//! Small files by hand; whole histories are in `logs::tests`.

use super::*;

fn cri(lines: &[(&str, &str, &str)]) -> Vec<u8> {
    let lines = lines.iter().map(|(second, stream, text)| {
        format!("2026-11-22T16:49:{second}.000000000Z {stream} F {text}\n")
    });
    lines.collect::<String>().into_bytes()
}

fn docker(lines: &[(&str, &str)]) -> Vec<u8> {
    let lines = lines.iter().map(|(second, stream)| {
        format!(
            "{{\"log\":\"x\\n\",\"stream\":\"{stream}\",\"time\":\"2026-11-22T16:49:{second}Z\"}}\n"
        )
    });
    lines.collect::<String>().into_bytes()
}

fn last(files: &[&[u8]]) -> Option<Position> {
    last_written(files).unwrap()
}

const OUT: &str = "stdout";
const ERR: &str = "stderr";

#[test]
fn position_is_the_last_line_with_its_equals() {
    let log = cri(&[
        ("01", OUT, "a"),
        ("02", OUT, "b"),
        ("01", ERR, "c"),
        ("02", OUT, "d"),
    ]);
    let position = last(&[&log]).unwrap();
    assert_eq!(
        (position.stream, position.lines.len()),
        (StreamKind::Stdout, 2)
    );
    assert_eq!(
        position.since,
        Stamp::parse(b"2026-11-22T16:49:01Z").unwrap()
    );
    assert_eq!(last(&[b""]), None);
    assert_eq!(last(&[b"no such format\n"]), None);
}

#[test]
fn group_that_began_before_rotation_is_counted_over_both_files() {
    let (old, new) = (
        cri(&[("01", OUT, "a"), ("02", OUT, "b")]),
        cri(&[("02", OUT, "c")]),
    );
    assert_eq!(last(&[&new, &old]).unwrap().lines.len(), 2);
    assert_eq!(last(&[b"", &old]).unwrap().lines.len(), 1);
}

#[test]
fn marker_is_no_position() {
    let mut log = cri(&[("01", OUT, "a")]);
    super::super::record::write_gap(Stamp::parse(b"2026-11-22T16:50:00Z").unwrap(), &mut log);
    let position = last(&[&log]).unwrap();
    assert_eq!(
        position.stamp,
        Stamp::parse(b"2026-11-22T16:49:01Z").unwrap()
    );
}

#[test]
fn group_larger_than_the_window_is_counted_in_full() {
    let mut lines = vec![("01", OUT, "a")];
    lines.extend(std::iter::repeat_n(("02", OUT, "b"), 5000));
    let position = last(&[&cri(&lines)]).unwrap();
    assert_eq!(position.lines.len(), 5000);

    let mut records = vec![("01", OUT), ("02", OUT)];
    records.extend(std::iter::repeat_n(("02", OUT), 6000));
    let records = docker(&records);
    let one = docker(&[("01", OUT)]).len() as u64;
    assert_eq!(
        locate(&records[..], &position).unwrap(),
        Located::At(one * 5001)
    );
}

#[test]
fn dropped_position_is_told_from_one_at_the_end() {
    let position = last(&[&cri(&[("05", OUT, "x")])]).unwrap();
    let length = |lines: &[(&str, &str)]| docker(lines).len() as u64;
    let found = |lines: &[(&str, &str)]| locate(&docker(lines)[..], &position).unwrap();
    assert_eq!(found(&[]), Located::At(0));
    assert_eq!(found(&[("05", OUT)]), Located::At(length(&[("05", OUT)])));
    assert_eq!(found(&[("07", ERR), ("08", OUT)]), Located::Lost(0));
    assert_eq!(
        found(&[("04", ERR), ("08", OUT)]),
        Located::Lost(length(&[("04", ERR)]))
    );
    // Docker lost its end in a power cut and ours survived.
    assert_eq!(found(&[("04", OUT)]), Located::At(length(&[("04", OUT)])));
    // Times of different streams need no order, and a clock may have been set back.
    let mixed = [("09", ERR), ("05", OUT), ("04", ERR)];
    assert_eq!(found(&mixed), Located::At(length(&mixed[..2])));
    let back = [("08", OUT), ("05", OUT), ("06", OUT)];
    assert_eq!(found(&back), Located::At(length(&back[..2])));
}

#[test]
fn chain_is_one_piece() {
    let chain = Chain::new([&b"ab"[..], b"", b"cde"]).unwrap();
    let mut buffer = [0; 9];
    assert_eq!(fill(&chain, 1, &mut buffer, 5).unwrap(), 4);
    assert_eq!(&buffer[..4], b"bcde");
    assert_eq!(
        [0, 1, 2, 4, 5].map(|at| chain.locate(at)),
        [(0, 0), (0, 1), (2, 0), (2, 2), (2, 3)]
    );
}

#[test]
fn unfinished_line_does_not_count() {
    assert_eq!(complete_length(&b"one\ntwo"[..]).unwrap(), 4);
    assert_eq!(complete_length(&b"one"[..]).unwrap(), 0);
    assert_eq!(
        complete_length(&[&[b'\n'][..], &[b'x'; 9000]].concat()[..]).unwrap(),
        1
    );
}

#[test]
fn texts_tell_where_docker_dropped_the_first_of_a_group() {
    let position = last(&[&cri(&[("05", OUT, "a"), ("05", OUT, "x")])]).unwrap();
    let one = docker(&[("05", OUT)]).len() as u64;
    let left = docker(&[("05", OUT), ("05", OUT)]);
    assert_eq!(locate(&left[..], &position).unwrap(), Located::At(one));
    let position = last(&[&cri(&[("05", OUT, "a")])]).unwrap();
    assert_eq!(locate(&left[..], &position).unwrap(), Located::Lost(0));
}

#[test]
fn lines_before_tell_where_equal_texts_of_a_group_do_not() {
    let written = [("05", ERR, "x"), ("04", OUT, "x"), ("05", ERR, "x")];
    let position = last(&[&cri(&written)]).unwrap();
    let left = docker(&[("04", OUT), ("05", ERR), ("05", ERR)]);
    let two = docker(&[("04", OUT), ("05", ERR)]).len() as u64;
    assert_eq!(locate(&left[..], &position).unwrap(), Located::At(two));
}

use std::ffi::OsString;

use super::*;
use proptest::prelude::*;

fn no_x(text: &str) -> Result<(), String> {
    if text.contains('x') {
        Err("no x here".to_owned())
    } else {
        Ok(())
    }
}

const FLAGS: &[Flag] = &[
    Flag::new("bool", Kind::Bool, "false", "A switch.").short('b'),
    Flag::new("on", Kind::Bool, "true", "A switch that is on."),
    Flag::new("text", Kind::String, "abc", "Some `words` to say.").short('t'),
    Flag::new("int32", Kind::Int32, "-1", "A number.").short('n'),
    Flag::new("int64", Kind::Int64, "0", "A big number."),
    Flag::new("uint32", Kind::Uint32, "7", "A plain number."),
    Flag::new("float", Kind::Float64, "0.5", "A fraction."),
    Flag::new(
        "idle-time",
        Kind::Duration,
        "1m0s",
        "How long.\nIn Go syntax.",
    ),
    Flag::new("ip", Kind::Ip, "<nil>", "An address."),
    Flag::new("list", Kind::StringSlice, "[pods]", "Names."),
    Flag::new("array", Kind::StringArray, "[]", "Names."),
    Flag::new("map", Kind::MapStringString, "", "Pairs."),
    Flag::new("one", Kind::MapStringStringNoSplit, "", "Pairs."),
    Flag::new("gates", Kind::MapStringBool, "", "Gates."),
    Flag::new("hard", Kind::LangleMap, "", "Thresholds."),
    Flag::new("header", Kind::ColonMultimap, "", "Headers."),
    Flag::new("pairs", Kind::StringToString, "[]", "Pairs."),
    Flag::new("old", Kind::String, "", "An old one.").deprecated("use --text instead."),
    Flag::new("secret", Kind::String, "", "Not shown.").hidden(),
    Flag::new(
        "own",
        Kind::Custom(Custom {
            type_name: "own",
            bare: Some("bare"),
            check: no_x,
        }),
        "",
        "One's own.",
    ),
];

fn set() -> FlagSet {
    FlagSet::new(FLAGS).normalize_words()
}

fn parse(args: &[&str]) -> Parsed {
    set()
        .parse(args)
        .unwrap_or_else(|failure| panic!("{args:?}: {failure}"))
}

fn refuse(args: &[&str]) -> String {
    set().parse(args).expect_err("must be refused").to_string()
}

#[test]
fn unset_flags_have_their_defaults() {
    let parsed = parse(&[]);
    assert!(!parsed.bool("bool"));
    assert!(parsed.bool("on"));
    assert_eq!(parsed.text("text"), "abc");
    assert_eq!(parsed.int("int32"), -1);
    assert_eq!(parsed.uint("uint32"), 7);
    assert!((parsed.float("float") - 0.5).abs() < f64::EPSILON);
    assert_eq!(parsed.duration("idle-time"), GoDuration::from_secs(60));
    assert_eq!(parsed.list("list"), ["pods"]);
    assert!(parsed.list("own").is_empty());
    assert!(parsed.changed_flags().is_empty());
}

#[test]
fn values_stand_after_equals_or_in_the_next_argument() {
    let parsed = parse(&[
        "--text=a=b",
        "--int32",
        "0x10",
        "-t",
        "c",
        "-n5",
        "--bool",
        "rest",
    ]);
    assert_eq!(parsed.text("text"), "c");
    assert_eq!(parsed.int("int32"), 5);
    assert!(parsed.bool("bool"));
    assert_eq!(parsed.positional(), ["rest"]);
    assert_eq!(parsed.changed_flags(), ["text", "int32", "bool"]);
    // a value may look like a flag
    assert_eq!(parse(&["--text", "--bool"]).text("text"), "--bool");
}

#[test]
fn booleans_take_a_value_only_after_equals() {
    let parsed = parse(&["--bool", "false", "--on=F"]);
    assert!(parsed.bool("bool"));
    assert!(!parsed.bool("on"));
    assert_eq!(parsed.positional(), ["false"]);
}

#[test]
fn shorthands_cluster() {
    let parsed = parse(&["-bt=x", "-bn", "3"]);
    assert!(parsed.bool("bool"));
    assert_eq!(parsed.text("text"), "x");
    assert_eq!(parsed.int("int32"), 3);
    assert_eq!(parse(&["-t="]).text("text"), "=");
}

#[test]
fn underscores_stand_for_dashes() {
    assert_eq!(
        parse(&["--idle_time=2s"]).duration("idle-time"),
        GoDuration::from_secs(2)
    );
    let strict = FlagSet::new(FLAGS).parse(["--idle_time=2s"]);
    assert_eq!(
        strict.expect_err("unknown").to_string(),
        "unknown flag: --idle_time"
    );
}

#[test]
fn double_dash_ends_the_flags() {
    let parsed = parse(&["a", "--", "--bool", "-", "--"]);
    assert!(!parsed.bool("bool"));
    assert_eq!(parsed.positional(), ["a", "--bool", "-", "--"]);
    assert_eq!(parse(&["-", ""]).positional(), ["-", ""]);
}

#[test]
fn lists_and_maps_replace_the_default_then_grow() {
    let parsed = parse(&[
        "--list=a,\"b,c\"",
        "--list=d",
        "--array=a,b",
        "--array=c",
        "--map=a=1,b= 2 ,",
        "--map=a=3",
        "--one=k=1,2",
        "--one=l=3",
        "--gates=A=true,B=f",
        "--hard=memory.available<100Mi,nodefs.available<10%",
        "--header=a:1,b:2",
        "--header=a:3:4",
        "--pairs=a=1,\"b=2,3\"",
        "--own=q",
        "--own",
    ]);
    assert_eq!(parsed.list("list"), ["a", "b,c", "d"]);
    assert_eq!(parsed.list("array"), ["a,b", "c"]);
    assert_eq!(parsed.value("map").to_string(), "a=3,b=2");
    assert_eq!(parsed.value("one").to_string(), "k=1,2,l=3");
    assert_eq!(parsed.value("gates").to_string(), "A=true,B=false");
    assert_eq!(parsed.map("hard")["nodefs.available"], "10%");
    assert_eq!(parsed.multimap("header")["a"], ["1", "3:4"]);
    assert_eq!(parsed.map("pairs")["b"], "2,3");
    assert_eq!(parsed.list("own"), ["q", "bare"]);
    assert_eq!(parsed.value("list").to_string(), "[a,\"b,c\",d]");
    assert!(parse(&["--list="]).list("list").is_empty());
}

#[test]
fn errors_are_worded_as_pflag_words_them() {
    for (args, expected) in [
        (&["--nope=1"][..], "unknown flag: --nope"),
        (&["---x"], "bad flag syntax: ---x"),
        (&["--=x"], "bad flag syntax: --=x"),
        (&["--text"], "flag needs an argument: --text"),
        (&["--idle_time"], "flag needs an argument: --idle_time"),
        (&["-bq1"], "unknown shorthand flag: 'q' in -q1"),
        (&["-bt"], "flag needs an argument: 't' in -t"),
        (&["--help"], "pflag: help requested"),
        (&["-h"], "pflag: help requested"),
        (
            &["--bool=maybe"],
            "invalid argument \"maybe\" for \"-b, --bool\" flag: strconv.ParseBool: parsing \
             \"maybe\": invalid syntax",
        ),
        (
            &["--int32=4294967296"],
            "invalid argument \"4294967296\" for \"-n, --int32\" flag: strconv.ParseInt: parsing \
             \"4294967296\": value out of range",
        ),
        (
            &["--uint32=-1"],
            "invalid argument \"-1\" for \"--uint32\" flag: strconv.ParseUint: parsing \"-1\": \
             invalid syntax",
        ),
        (
            &["--idle-time=5"],
            "invalid argument \"5\" for \"--idle-time\" flag: time: missing unit in duration \"5\"",
        ),
        (
            &["--ip=1.2.3"],
            "invalid argument \"1.2.3\" for \"--ip\" flag: failed to parse IP: \"1.2.3\"",
        ),
        (
            &["--map=a"],
            "invalid argument \"a\" for \"--map\" flag: malformed pair, expect string=string",
        ),
        (
            &["--one="],
            "invalid argument \"\" for \"--one\" flag: malformed pair, expect string=string",
        ),
        (
            &["--gates=A=on"],
            "invalid argument \"A=on\" for \"--gates\" flag: invalid value of A: on, err: \
             strconv.ParseBool: parsing \"on\": invalid syntax",
        ),
        (
            &["--hard=a=1"],
            "invalid argument \"a=1\" for \"--hard\" flag: malformed pair, expect string<string",
        ),
        (
            &["--header=a"],
            "invalid argument \"a\" for \"--header\" flag: malformed pair, expect string:string",
        ),
        (
            &["--own=x"],
            "invalid argument \"x\" for \"--own\" flag: no x here",
        ),
        (
            &["--list=a\"b"],
            "invalid argument \"a\\\"b\" for \"--list\" flag: parse error on line 1, column 2: \
             bare \" in non-quoted-field",
        ),
    ] {
        assert_eq!(refuse(args), expected, "{args:?}");
    }
}

#[test]
fn deprecated_flags_say_so_at_each_use() {
    let notice = "Flag --old has been deprecated, use --text instead.";
    assert_eq!(parse(&["--old=1", "--old=2"]).notices(), [notice, notice]);
    let failure = set().parse(["--old=1", "--nope"]).expect_err("unknown");
    assert_eq!(failure.notices, [notice]);
}

#[test]
fn help_text_has_pflags_layout() {
    const SHOWN: &[Flag] = &[
        Flag::new("bool", Kind::Bool, "false", "A switch.").short('b'),
        Flag::new("text", Kind::String, "abc", "Some `words` to say."),
        Flag::new("wait", Kind::Duration, "1m0s", "How long.\nIn Go syntax."),
        Flag::new("list", Kind::StringSlice, "[pods]", "Names.").deprecated("not used."),
        Flag::new("secret", Kind::String, "", "Not shown.").hidden(),
    ];
    let expected = "  -b, --bool            A switch.
      --list strings    Names. (default [pods]) (DEPRECATED: not used.)
      --text words      Some words to say. (default \"abc\")
      --wait duration   How long.
                INDENTIn Go syntax. (default 1m0s)
";
    let set = FlagSet::new(SHOWN);
    assert_eq!(set.usages(), expected.replace("INDENT", "        "));
    assert_eq!(set.usages_wrapped(2), expected.replace("INDENT", ""));
    let wrapped = set.usages_wrapped(60);
    assert!(
        wrapped.contains("Names. (default [pods])\n                        (DEPRECATED"),
        "{wrapped}"
    );
}

#[test]
fn computed_help_text_replaces_the_tables() {
    let set = set().with_usage("bool", "Computed.".to_owned());
    assert!(set.usages().contains("--bool"));
    assert!(set.usages().contains("Computed."));
}

#[test]
fn completion_lists_what_help_shows_and_is_current() {
    let set = set();
    let found = set.completions();
    let names: Vec<&str> = found.iter().map(|completion| completion.name).collect();
    assert!(names.contains(&"bool") && !names.contains(&"old") && !names.contains(&"secret"));
    let of = |name| {
        found
            .iter()
            .find(|completion| completion.name == name)
            .expect("listed")
    };
    assert!(of("text").takes_value && !of("bool").takes_value && !of("own").takes_value);
    assert_eq!(of("idle-time").description, "How long.");
}

#[test]
fn arguments_must_be_utf8() {
    use std::os::unix::ffi::OsStringExt;
    let bad = OsString::from_vec(vec![b'a', 0xff]);
    let error = utf8_args([OsString::from("ok"), bad]).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "argument 2 is not valid UTF-8: \"a\u{fffd}\""
    );
}

#[test]
fn durations_read_and_print_as_in_go() {
    for (text, nanos, printed) in [
        ("0", 0, "0s"),
        ("-0", 0, "0s"),
        ("5ns", 5, "5ns"),
        ("1.5us", 1_500, "1.5µs"),
        ("2μs", 2_000, "2µs"),
        ("300ms", 300_000_000, "300ms"),
        (".5s", 500_000_000, "500ms"),
        ("1.s", 1_000_000_000, "1s"),
        ("+1h2m3.5s", 3_723_500_000_000, "1h2m3.5s"),
        ("-90m", -5_400_000_000_000, "-1h30m0s"),
        ("24h", 86_400_000_000_000, "24h0m0s"),
        (
            "9223372036854775807ns",
            i64::MAX,
            "2562047h47m16.854775807s",
        ),
        (
            "-9223372036854775808ns",
            i64::MIN,
            "-2562047h47m16.854775808s",
        ),
    ] {
        let duration: GoDuration = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(duration.as_nanos(), nanos, "{text}");
        assert_eq!(duration.to_string(), printed, "{text}");
    }
    for (text, expected) in [
        ("", "time: invalid duration \"\""),
        ("-", "time: invalid duration \"-\""),
        (".s", "time: invalid duration \".s\""),
        ("3", "time: missing unit in duration \"3\""),
        ("1h3", "time: missing unit in duration \"1h3\""),
        ("1d", "time: unknown unit \"d\" in duration \"1d\""),
        ("1m-2s", "time: unknown unit \"m-\" in duration \"1m-2s\""),
        (
            "9223372036854775808ns",
            "time: invalid duration \"9223372036854775808ns\"",
        ),
        ("3000000h", "time: invalid duration \"3000000h\""),
    ] {
        let error = text.parse::<GoDuration>().expect_err(text);
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(GoDuration::from_millis(-5).to_std(), None);
    assert_eq!(
        GoDuration::from(std::time::Duration::MAX).as_nanos(),
        i64::MAX
    );
}

#[test]
fn integers_follow_go_prefixes() {
    for (text, expected) in [
        ("0", 0),
        ("0664", 436),
        ("0x1F", 31),
        ("0b101", 5),
        ("0o17", 15),
        ("1_000", 1000),
        ("0_7", 7),
        ("-0x10", -16),
    ] {
        assert_eq!(parse_int(text, 0, 32).expect(text), expected, "{text}");
    }
    for text in ["", "08", "1__0", "_1", "1_", "0x", "+", "--1", "1 "] {
        assert!(parse_int(text, 0, 64).is_err(), "{text}");
    }
    assert_eq!(
        parse_int("-2147483648", 0, 32).expect("fits"),
        i64::from(i32::MIN)
    );
    assert!(parse_int("1_0", 10, 32).is_err());
}

#[test]
fn quoting_is_gos() {
    assert_eq!(quote("a\"b\\c\n\u{1}é"), "\"a\\\"b\\\\c\\n\\x01é\"");
}

proptest! {
    #[test]
    fn durations_survive_printing(nanos: i64) {
        let duration = GoDuration::from_nanos(nanos);
        prop_assert_eq!(duration.to_string().parse::<GoDuration>(), Ok(duration));
    }

    #[test]
    fn lists_survive_printing(items in proptest::collection::vec("[a-z,\" ]{0,6}", 1..5)) {
        let text = csv::write_record(&items);
        prop_assert_eq!(csv::read_record(&text), Ok(items));
    }

    #[test]
    fn no_command_line_panics(args in proptest::collection::vec("-{0,3}[a-z_=,0-9\"<:é]{0,8}", 0..6)) {
        let _ = set().parse(&args);
    }
}

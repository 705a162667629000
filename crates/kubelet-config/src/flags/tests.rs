use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;

fn config_of(args: &[&str]) -> KubeletConfiguration {
    let parsed = flag_set()
        .parse(args)
        .unwrap_or_else(|failure| panic!("{args:?}: {failure}"));
    let mut config = KubeletConfiguration::legacy_defaults();
    apply(&mut config, &parsed);
    config
}

#[test]
fn the_table_has_upstreams_151_flags_once() {
    let names: BTreeSet<&str> = rows().map(|row| row.flag.name).collect();
    assert_eq!(names.len(), 151);
    assert_eq!(rows().count(), 151);
    assert!(rows().all(|row| !row.flag.name.contains('_') && !row.row.is_empty()));
}

/// The default of a flag is the field's value after a start with no flags at all.
#[test]
fn defaults_of_flags_are_those_of_the_configuration() {
    let untouched = KubeletConfiguration::legacy_defaults();
    let parsed = flag_set().parse::<[&str; 0]>([]).expect("no arguments");
    for row in rows() {
        let Target::Field { set, path } = row.target else {
            continue;
        };
        let mut config = untouched.clone();
        set(&mut config, parsed.value(row.flag.name));
        let (before, after) = (
            serde_json::to_value(&untouched).expect("encodes"),
            serde_json::to_value(&config).expect("encodes"),
        );
        assert_eq!(before, after, "--{} and {path}", row.flag.name);
    }
}

/// Each flag changes its own field and no other.
#[test]
fn every_flag_reaches_its_field() {
    let untouched = serde_json::to_value(KubeletConfiguration::legacy_defaults()).expect("encodes");
    for row in rows() {
        let Target::Field { path, .. } = row.target else {
            continue;
        };
        let value = match row.flag.kind.type_name() {
            "bool" => if row.flag.default == "true" {
                "false"
            } else {
                "true"
            }
            .to_owned(),
            "int32" | "int64" | "Level" => "7".to_owned(),
            "duration" => "7s".to_owned(),
            "ip" => "10.0.0.7".to_owned(),
            "quantity" => "7Mi".to_owned(),
            "mapStringBool" => "EnvFiles=true".to_owned(),
            "mapStringString" => {
                if row.flag.name.starts_with("eviction-hard") || row.flag.name == "eviction-soft" {
                    "k<v"
                } else {
                    "k=v"
                }
                .to_owned()
            }
            "colonSeparatedMultimapStringString" => "k:v".to_owned(),
            "pattern=N,..." => "file=7".to_owned(),
            "reserved-memory" => "0:memory=1Gi".to_owned(),
            "[]v1.Taint" => "k=v:NoSchedule".to_owned(),
            _ => "other".to_owned(),
        };
        let config = config_of(&[&format!("--{}={value}", row.flag.name)]);
        let changed = serde_json::to_value(&config).expect("encodes");
        assert_eq!(
            differences("", &untouched, &changed),
            [path],
            "--{}",
            row.flag.name
        );
    }
}

/// Paths of fields that differ, down to those of the field table.
fn differences(path: &str, a: &serde_json::Value, b: &serde_json::Value) -> Vec<String> {
    if a == b {
        return Vec::new();
    }
    if FIELDS.iter().any(|field| field.path == path) {
        return vec![path.to_owned()];
    }
    let empty = json!({});
    let object = |value: &serde_json::Value| {
        value
            .as_object()
            .or(empty.as_object())
            .expect("an object")
            .clone()
    };
    let (a, b) = (object(a), object(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names
        .into_iter()
        .flat_map(|name| {
            let below = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            let of = |map: &serde_json::Map<_, _>| map.get(name).cloned().unwrap_or_default();
            differences(&below, &of(&a), &of(&b))
        })
        .collect()
}

#[test]
fn special_syntaxes_are_read() {
    let config = config_of(&[
        "--reserved-memory=0:memory=1Gi,hugepages-2Mi=4Mi;1:memory=2Gi",
        "--reserved-memory=2:memory=1",
        "--register-with-taints=a=b:NoSchedule,example.com/c:NoExecute",
        "--vmodule=a=1,b*=2",
        "--vmodule=c=3",
        "--manifest-url-header=X-A:1,X-A:2",
        "--eviction-hard=memory.available<1Gi,nodefs.available<5%",
        "--system-reserved=cpu=200m,memory=500Mi",
        "--address=::",
        "--healthz_bind_address=010.0.0.01",
        "-v5",
    ]);
    let reserved = config.reserved_memory.expect("set");
    assert_eq!(
        reserved
            .iter()
            .map(|entry| entry.numa_node)
            .collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert_eq!(reserved[0].limits["hugepages-2Mi"].text(), "4Mi");
    let taints = config.register_with_taints.expect("set");
    assert_eq!(
        (taints[0].value.as_str(), taints[1].key.as_str()),
        ("b", "example.com/c")
    );
    let patterns: Vec<String> = config
        .logging
        .vmodule
        .expect("set")
        .into_iter()
        .map(|item| item.file_pattern)
        .collect();
    assert_eq!(patterns, ["a", "b*", "c"]);
    assert_eq!(
        config.static_pod_url_header.expect("set")["X-A"],
        ["1", "2"]
    );
    assert_eq!(config.eviction_hard.expect("set")["nodefs.available"], "5%");
    assert_eq!(config.system_reserved.expect("set")["cpu"], "200m");
    assert_eq!(
        (config.address.as_str(), config.logging.verbosity),
        ("::", 5)
    );
    assert_eq!(
        syntax::parse_ip(&config.healthz_bind_address),
        "10.0.0.1".parse().ok()
    );
}

/// Recorded from upstream's kubelet v1.34.
#[test]
fn refusals_are_upstreams() {
    for (argument, expected) in [
        (
            "--address=x",
            "\"x\" for \"--address\" flag: \"x\" is not a valid IP address",
        ),
        (
            "--register-with-taints=a",
            "\"a\" for \"--register-with-taints\" flag: invalid taint spec: a",
        ),
        (
            "--reserved-memory=0",
            "\"0\" for \"--reserved-memory\" flag: the reserved memory has incorrect format, \
             expected numaNodeID:type=quantity[,type=quantity...], got 0",
        ),
        (
            "--v=x",
            "\"x\" for \"-v, --v\" flag: strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            "--vmodule=x",
            "\"x\" for \"--vmodule\" flag: \"x\" does not have the pattern=N format",
        ),
        (
            "--housekeeping-interval=x",
            "\"x\" for \"--housekeeping-interval\" flag: parse error",
        ),
        (
            "--read-only-port=1000000000000",
            "\"1000000000000\" for \"--read-only-port\" flag: strconv.ParseInt: parsing \
             \"1000000000000\": value out of range",
        ),
        (
            "--version=x",
            "\"x\" for \"--version\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
    ] {
        let failure = flag_set().parse([argument]).expect_err(argument);
        assert_eq!(failure.to_string(), format!("invalid argument {expected}"));
    }
}

#[test]
fn gates_merge_and_maps_replace() {
    let mut config = KubeletConfiguration::legacy_defaults();
    config.feature_gates = Some(BTreeMap::from([
        ("A".to_owned(), true),
        ("B".to_owned(), true),
    ]));
    config.eviction_hard = Some(BTreeMap::from([("x".to_owned(), "1".to_owned())]));
    let args = ["--feature-gates=B=false,C=true", "--eviction-hard=y<2"];
    apply(&mut config, &flag_set().parse(args).expect("valid"));
    let gates = config.feature_gates.expect("set");
    assert_eq!(gates.into_values().collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(
        config
            .eviction_hard
            .expect("set")
            .into_keys()
            .collect::<Vec<_>>(),
        ["y"]
    );
}

#[test]
fn help_lists_gates_and_deprecations() {
    let help = flag_set().usages_wrapped(2);
    assert!(help.contains("\n                EnvFiles=true|false (ALPHA - default=false)\n"));
    assert!(
        !help.contains("SidecarContainers"),
        "finished gates are not offered"
    );
    assert!(help.contains("  -v, --v Level "));
    assert!(help.contains("      --version version[=true] "));
    assert!(help.contains("(default 4h0m0s) (DEPRECATED: This parameter should be set via"));
}

//! Files of both programs, and files of neither.

use serde_json::json;

use super::*;

fn mapping(protocol: &str, container: i32, host: i32, ip: &str) -> PortMapping {
    PortMapping {
        protocol: Some(protocol.to_owned()),
        container_port: Some(container),
        host_port: Some(host),
        host_ip: ip.to_owned(),
    }
}

fn checkpoint(port_mappings: Vec<PortMapping>, host_network: bool) -> Checkpoint {
    Checkpoint {
        name: "web".into(),
        namespace: "default".into(),
        port_mappings,
        host_network,
        extra: Map::new(),
    }
}

#[test]
fn files_are_upstreams_byte_for_byte() {
    // The checksums are those of CKP-07.
    let cases = [
        (vec![], false, "{}", 2_305_795_928_u64),
        (vec![], true, r#"{"host_network":true}"#, 12_315_789),
        (
            vec![mapping("tcp", 80, 8080, "")],
            false,
            r#"{"port_mappings":[{"protocol":"tcp","container_port":80,"host_port":8080}]}"#,
            3_712_672_205,
        ),
        (
            vec![
                mapping("tcp", 80, 12000, ""),
                mapping("udp", 53, 0, "127.0.0.1"),
            ],
            false,
            r#"{"port_mappings":[{"protocol":"tcp","container_port":80,"host_port":12000},{"protocol":"udp","container_port":53,"host_port":0,"host_ip":"127.0.0.1"}]}"#,
            1_697_582_153,
        ),
    ];
    for (mappings, host_network, data, checksum) in cases {
        let file = format!(
            r#"{{"version":"v1","name":"web","namespace":"default","data":{data},"checksum":{checksum}}}"#
        );
        let checkpoint = checkpoint(mappings, host_network);
        assert_eq!(String::from_utf8(encode(&checkpoint)).unwrap(), file);
        assert_eq!(decode(file.as_bytes()), Ok(checkpoint));
    }
}

#[test]
fn own_keys_stand_beside_upstreams_and_cannot_replace_them() {
    let mut ours = checkpoint(vec![], true);
    ours.extra.insert(
        "network".into(),
        json!({"plugin": "cni", "ips": ["10.0.0.7"]}),
    );
    ours.extra.insert("checksum".into(), json!(7));
    let bytes = encode(&ours);
    ours.extra.remove("checksum");
    assert_eq!(decode(&bytes), Ok(ours));
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.matches("checksum").count(), 1, "{text}");
}

#[test]
fn null_and_absent_parts_are_empty() {
    for data in [r#""data":null,"#, r#""data":{"port_mappings":null},"#, ""] {
        let file = format!(r#"{{"version":"v1","name":"a",{data}"checksum":2305795928}}"#);
        assert_eq!(decode(file.as_bytes()).unwrap().name, "a");
    }
}

#[test]
fn damage_is_told_apart_from_absence() {
    for bad in [
        "",
        "{",
        "[]",
        r#"{"version":"v1","data":{},"checksum":1}"#,
        r#"{"version":"v2","data":{},"checksum":2305795928}"#,
        r#"{"version":"v1","data":{"host_network":true},"checksum":2305795928}"#,
    ] {
        assert!(decode(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn keys_follow_the_rule_of_the_checkpoint_store() {
    for good in ["a", "0f-_.", &"f".repeat(250)] {
        assert!(is_valid_key(good), "{good}");
    }
    for bad in ["", ".a", "-a", "a/b", "ä", &"f".repeat(251), ".."] {
        assert!(!is_valid_key(bad), "{bad}");
    }
}

#[tokio::test]
async fn store_keeps_lists_and_forgets() {
    let root = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(root.path()).unwrap();
    let (one, two) = (checkpoint(vec![], false), checkpoint(vec![], true));
    store.write("b2", &two).await.unwrap();
    store.write("a1", &two).await.unwrap();
    store.write("a1", &one).await.unwrap();
    fs::write(root.path().join("sandbox/.a1123"), "half").unwrap();

    // As after a restart.
    let store = CheckpointStore::open(root.path()).unwrap();
    assert_eq!(store.list().await.unwrap(), ["a1", "b2"]);
    assert_eq!(store.read("a1").await.unwrap(), Some(one));
    assert_eq!(store.read("c3").await.unwrap(), None);
    store.remove("a1").await.unwrap();
    store.remove("a1").await.unwrap();
    assert_eq!(store.list().await.unwrap(), ["b2"]);
    assert!(matches!(
        store.read("../x").await,
        Err(CheckpointError::Key(_))
    ));

    fs::write(root.path().join("sandbox/b2"), "{}").unwrap();
    let error = store.read("b2").await.unwrap_err();
    assert!(error.is_corrupt());
    assert!(
        error.to_string().starts_with("checkpoint is corrupted"),
        "{error}"
    );
}

proptest::proptest! {
    #[test]
    fn what_is_written_is_read_back(
        ports in proptest::collection::vec((0..3_i32, 0..=65535_i32, 0..=65535_i32, "[0-9a-f.:]{0,9}"), 0..5),
        host_network: bool,
        name in "[a-z\"<&é]{0,9}",
    ) {
        let mappings = ports.into_iter().map(|(protocol, container_port, host_port, host_ip)| {
            PortMapping::from(&cri_api::v1::PortMapping { protocol, container_port, host_port, host_ip })
        });
        let mut checkpoint = checkpoint(mappings.collect(), host_network);
        checkpoint.name = name;
        proptest::prop_assert_eq!(decode(&encode(&checkpoint)), Ok(checkpoint));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        let _ = decode(&bytes);
    }
}

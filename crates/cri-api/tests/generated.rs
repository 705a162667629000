//! Holds `src/generated.rs` to `proto/runtime.proto`. `BLESS=1` writes it anew.

use std::{fs, path::Path};

#[test]
fn generated_code_is_what_the_proto_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(["runtime.proto"], [root.join("proto")]).unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .btree_map(".")
        .out_dir(out.path())
        .compile_fds(descriptors)
        .unwrap();
    let fresh = fs::read_to_string(out.path().join("runtime.v1.rs")).unwrap();
    let committed = root.join("src/generated.rs");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&committed, &fresh).unwrap();
    }
    assert!(
        fs::read_to_string(&committed).is_ok_and(|text| text == fresh),
        "run BLESS=1 cargo test -p cri-api --test generated"
    );
}

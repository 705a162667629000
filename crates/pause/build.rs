//! Compiles `src/pause.rs` for the target with the same compiler, so that the crate can embed it
//! (DEC-44). No standard library, no start files: what is linked is that one file.

use std::{env, ffi::OsString, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=src/pause.rs");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| -> OsString {
        env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name} for build scripts"))
    };
    let program = PathBuf::from(variable("OUT_DIR")).join("pause");
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR"));

    #[expect(
        clippy::disallowed_methods,
        reason = "a build script runs the compiler; nothing of this is in the product"
    )]
    let mut rustc = std::process::Command::new(variable("RUSTC"));
    rustc
        .args(["--edition=2024", "--crate-name=pause", "--crate-type=bin"])
        .arg("--target")
        .arg(variable("TARGET"))
        .args([
            "-Copt-level=s",
            "-Cpanic=abort",
            "-Cstrip=symbols",
            "-Ccodegen-units=1",
        ])
        .args([
            "-Crelocation-model=static",
            "-Ctarget-feature=+crt-static",
            "-Cdebuginfo=0",
        ])
        .args([
            "-Clink-arg=-nostartfiles",
            "-Clink-arg=-nostdlib",
            "-Clink-arg=-static",
        ])
        // One page each for code and data instead of four aligned segments.
        .args([
            "-Clink-arg=-Wl,-z,noseparate-code",
            "-Clink-arg=-Wl,--build-id=none",
        ])
        // Paths of the build machine must not reach the image, whose id is to be reproducible.
        .arg({
            let mut remap = OsString::from("--remap-path-prefix=");
            remap.push(&manifest_dir);
            remap.push("=");
            remap
        })
        .arg("-o")
        .arg(&program)
        .arg(manifest_dir.join("src/pause.rs"));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut argument = OsString::from("-Clinker=");
        argument.push(linker);
        rustc.arg(argument);
    }
    let status = rustc
        .status()
        .expect("the compiler that cargo names can be run");
    assert!(
        status.success(),
        "compiling src/pause.rs ended with {status}"
    );
}

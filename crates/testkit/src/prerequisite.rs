//! What a test needs of its machine and may lack on a developer's.

/// Whether a test may go on. `missing` tells what is missing, `None` when all is there.
///
/// Where something is missing the reason is printed and the test should return; where the
/// environment's `REQUIRE` (a comma-separated list, which `make test` and CI set) names the
/// prerequisite, it panics instead.
///
/// ```
/// if !testkit::prerequisite("cgroup2", Some("no cgroup2 mount".to_owned())) {
///     return;
/// }
/// # unreachable!()
/// ```
///
/// # Panics
/// When the prerequisite is required and missing.
pub fn prerequisite(name: &str, missing: Option<String>) -> bool {
    let Some(reason) = missing else { return true };
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch for test runs, not a setting"
    )]
    let required = std::env::var("REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|word| word == name),
        "{name} is required here: {reason}"
    );
    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    {
        eprintln!("skipped: {name}: {reason}");
    }
    false
}

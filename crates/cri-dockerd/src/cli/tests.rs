//! Command lines and what comes of them.

use super::*;

fn run(args: &[&str]) -> Result<Command, Refused> {
    run_where(args, &DockerVariables::default())
}

fn run_where(args: &[&str], docker: &DockerVariables) -> Result<Command, Refused> {
    parse(args.iter().map(OsString::from).collect(), docker)
}

fn settings_of(args: &[&str]) -> Settings {
    match run(args) {
        Ok(Command::Run(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_are_upstreams() {
    let settings = settings_of(&[]);
    assert_eq!(
        settings.listen,
        Listen::Path("/var/run/cri-dockerd.sock".into())
    );
    assert_eq!(settings.sandbox_image, "registry.k8s.io/pause:3.10");
    assert_eq!(settings.request_timeout, Duration::from_secs(119));
    assert_eq!(settings.plugin, Plugin::Cni { fall_back: false });
    assert!(settings.streaming.ip().is_loopback());
}

#[test]
fn variables_of_dockers_client_count_where_no_endpoint_is_named_and_tls_is_refused() {
    let endpoint = |args: &[&str], host: &str, certificates: Option<&str>| {
        let docker = DockerVariables {
            host: Some(host.to_owned()),
            cert_path: certificates.map(str::to_owned),
        };
        match run_where(args, &docker) {
            Ok(Command::Run(settings)) => settings.docker_endpoint,
            Ok(other) => panic!("{other:?}"),
            Err(refused) => refused.problems.join("; "),
        }
    };
    let none = ["--docker-endpoint="];
    assert_eq!(endpoint(&none, "", Some("/certs")), DOCKER_SOCKET);
    assert_eq!(endpoint(&none, "tcp://d:1", Some("")), "tcp://d:1");
    let refused = endpoint(&none, "tcp://d:1", Some("/certs"));
    assert!(
        refused.starts_with("DOCKER_CERT_PATH: TLS to docker at tcp://d:1 is not supported"),
        "{refused}"
    );
    let named = ["--docker-endpoint=unix:///d"];
    assert_eq!(endpoint(&named, "tcp://d:1", Some("/certs")), "unix:///d");
}

#[test]
fn every_problem_is_told_at_once() {
    let refused = run(&["--network-plugin=none", "--log-level", "loud"]).unwrap_err();
    assert_eq!(
        refused.problems,
        [
            "network plugin \"none\" not found",
            "Unknown log level: loud"
        ]
    );
}

#[test]
fn endpoints_and_addresses_have_their_forms() {
    assert_eq!(listen("/run/x"), Ok(Listen::Path("/run/x".into())));
    assert_eq!(listen("fd://"), Ok(Listen::Inherited));
    assert!(listen("tcp://1").is_err());
    assert_eq!(streaming("::1").unwrap().to_string(), "[::1]:0");
    assert_eq!(streaming("[::1]:5").unwrap().to_string(), "[::1]:5");
    assert!(streaming("localhost:1").is_err());
}

#[test]
fn network_words_are_checked() {
    let problems = |flag: &str| run(&[flag]).unwrap_err().problems;
    assert_eq!(
        problems("--hairpin-mode=on"),
        [
            "invalid argument \"on\" for \"--hairpin-mode\" flag: \"on\" is not a valid hairpin-mode \
          value, must be one of: [\"promiscuous-bridge\" \"hairpin-veth\" \"none\"]"
        ]
    );
    settings_of(&["--hairpin-mode=promiscuous-bridge"]);
    assert!(problems("--bridge-network=host")[0].contains("docker network"));
    assert_eq!(settings_of(&["--bridge-network=bridge"]).bridge_network, "");
    let cni = settings_of(&["--cni-bin-dir=/a,,/b", "--pod-cidr=10.1.0.0/24"]).cni;
    assert_eq!(cni.bin_dirs, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(
        (cni.conf_dir.to_str(), cni.pod_cidr.as_str()),
        (Some("/etc/cni/net.d"), "10.1.0.0/24")
    );
}

#[test]
fn stray_words_and_unknown_flags_show_the_usage() {
    assert_eq!(run(&["go"]).unwrap_err().problems, ["Unknown command: go"]);
    assert!(run(&["--nope"]).unwrap_err().usage);
}

#[test]
fn certificate_and_key_of_the_streaming_server_go_together() {
    assert_eq!(settings_of(&[]).streaming_tls, None);
    let (cert, key) = (
        "--streaming-tls-cert-file=/c",
        "--streaming-tls-private-key-file=/k",
    );
    let files = settings_of(&[cert, key]).streaming_tls.unwrap();
    assert_eq!((files.certificate, files.key), ("/c".into(), "/k".into()));
    assert_eq!(files.client_ca, None);
    let ca = "--streaming-client-ca-file=/a";
    let files = settings_of(&[cert, key, ca]).streaming_tls.unwrap();
    assert_eq!(files.client_ca, Some("/a".into()));
    for flags in [&[cert][..], &[key], &[ca], &[cert, ca]] {
        let problems = run(flags).unwrap_err().problems;
        assert_eq!(problems.len(), 1, "{flags:?}: {problems:?}");
        assert!(problems[0].contains("go together"), "{problems:?}");
    }
}

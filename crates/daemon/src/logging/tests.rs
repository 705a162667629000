use std::sync::Mutex;

use tracing::{debug, error, info, info_span, trace, warn};
use tracing_subscriber::{layer::SubscriberExt as _, registry};

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Sink for Lines {
    fn write_line(&self, line: &[u8]) -> io::Result<()> {
        self.0
            .lock()
            .unwrap()
            .push(String::from_utf8(line.to_vec()).unwrap());
        Ok(())
    }
}

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn logged(config: Config, work: impl FnOnce(&Handle)) -> Vec<String> {
    let lines = Lines::default();
    let (layer, handle) = layer(config, lines.clone());
    tracing::subscriber::with_default(registry().with(layer), || work(&handle));
    lines.take()
}

fn with(format: Format, verbosity: u32) -> Config {
    Config {
        format,
        verbosity,
        ..Config::default()
    }
}

/// The part after klog's header.
fn body(line: &str) -> &str {
    line.split_once("] ").unwrap().1
}

#[test]
fn klog_header_has_severity_time_padded_pid_and_place() {
    let lines = logged(with(Format::Klog, 0), |_| warn!("hello"));
    let line = &lines[0];
    let bytes = line.as_bytes();
    assert_eq!(bytes[0], b'W');
    assert!(bytes[1..5].iter().all(u8::is_ascii_digit), "{line}");
    assert_eq!(
        (bytes[5], bytes[8], bytes[14], bytes[21]),
        (b' ', b':', b'.', b' '),
        "{line}"
    );
    assert_eq!(
        &line[22..29],
        format!("{:>7}", std::process::id()),
        "{line}"
    );
    assert!(line[30..].starts_with("tests.rs:"), "{line}");
    assert!(line.ends_with("] \"hello\"\n"), "{line}");
}

#[test]
fn klog_quotes_text_bares_numbers_and_puts_the_error_first() {
    let source = io::Error::other("no \"disk\"");
    let lines = logged(with(Format::Klog, 0), |_| {
        error!(pod = "default/web", attempt = 3, ok = false, error = %source, "pull failed");
    });
    assert_eq!(
        body(&lines[0]),
        "\"pull failed\" err=\"no \\\"disk\\\"\" pod=\"default/web\" attempt=3 ok=false\n"
    );
}

#[test]
fn klog_shows_text_of_several_lines_as_a_block() {
    let lines = logged(with(Format::Klog, 0), |_| {
        info!(output = "one\ntwo", "probe");
    });
    assert_eq!(body(&lines[0]), "\"probe\" output=<\n\tone\n\ttwo\n >\n");
}

#[test]
fn fields_of_spans_are_inherited_and_the_innermost_wins() {
    let lines = logged(with(Format::Klog, 0), |_| {
        let outer = info_span!("pod", pod.uid = "u1", container = "a").entered();
        let inner = info_span!("container", container = "b").entered();
        info!(image = "x", "started");
        drop(inner);
        drop(outer);
    });
    assert_eq!(
        body(&lines[0]),
        "\"started\" pod.uid=\"u1\" container=\"b\" image=\"x\"\n"
    );
}

#[test]
fn verbosity_decides_which_levels_show_and_can_change() {
    let lines = logged(with(Format::Klog, 3), |handle| {
        let say = |when: &str| {
            info!(when, "info");
            debug!(when, "debug");
            trace!(when, "trace");
        };
        say("3");
        handle.set_verbosity(4);
        say("4");
        handle.set_verbosity(5);
        assert_eq!(handle.verbosity(), 5);
        say("5");
        handle.set_verbosity(0);
        say("0");
    });
    let bodies: Vec<_> = lines.iter().map(|line| body(line)).collect();
    assert_eq!(bodies.len(), 1 + 2 + 3 + 1, "{bodies:?}");
}

#[test]
fn event_may_ask_for_a_verbosity_of_its_own() {
    let lines = logged(with(Format::Json, 2), |_| {
        info!(v = 2, "shown");
        info!(v = 3, "hidden");
    });
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].contains("\"msg\":\"shown\",\"v\":2"),
        "{}",
        lines[0]
    );
}

#[test]
fn vmodule_raises_one_file() {
    let vmodule = "tests=4".parse().unwrap();
    let lines = logged(
        Config {
            vmodule,
            ..Config::default()
        },
        |handle| {
            debug!("shown");
            handle.set_vmodule(Vmodule::default());
            debug!("hidden");
        },
    );
    assert_eq!(lines.len(), 1);
}

#[test]
fn libraries_beneath_us_are_quiet() {
    let lines = logged(with(Format::Klog, 5), |_| {
        trace!(target: "h2::codec", "frame");
        info!(target: "hyper_util::client", "idle");
        debug!(target: "hickory_net::udp", "message");
        warn!(target: "h2::proto", "bad peer");
    });
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("bad peer"));
}

#[test]
fn json_line_is_an_object_with_the_upstream_keys() {
    let lines = logged(with(Format::Json, 4), |_| {
        debug!(pod = "a\"b", count = 2u64, ratio = 0.5, "looked");
        error!(error = "broken", "gave up");
    });
    let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert!(first["ts"].as_f64().unwrap() > 1.6e12);
    assert!(first["caller"].as_str().unwrap().starts_with("tests.rs:"));
    assert_eq!(first["msg"], "looked");
    assert_eq!(first["v"], 4);
    assert_eq!(first["pod"], "a\"b");
    assert_eq!(first["count"], 2);
    assert_eq!(first["ratio"], 0.5);
    let second: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(second["err"], "broken");
    assert_eq!(second.get("v"), None);
}

#[test]
fn logrus_line_sorts_fields_and_quotes_where_needed() {
    let lines = logged(with(Format::Logrus, 0), |_| {
        warn!(
            zebra = "a b",
            apple = "x/y",
            error = "no route",
            "Failed to delete"
        );
    });
    let (time, rest) = lines[0].split_once(" level=").unwrap();
    assert!(
        time.starts_with("time=\"2") && time.ends_with('"'),
        "{time}"
    );
    assert_eq!(
        rest,
        "warning msg=\"Failed to delete\" apple=x/y error=\"no route\" zebra=\"a b\"\n"
    );
}

#[test]
fn sink_that_is_dead_loses_lines_and_nothing_else() {
    struct Dead;
    impl Sink for Dead {
        fn write_line(&self, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let before = lost_lines();
    let (layer, _handle) = layer(Config::default(), Dead);
    tracing::subscriber::with_default(registry().with(layer), || info!("lost"));
    assert!(lost_lines() > before);
}

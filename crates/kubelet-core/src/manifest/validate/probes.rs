//! Probes and lifecycle hooks.

use k8s_openapi::api::core::v1::{
    ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, PodOS, Probe, SleepAction,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::field::{Errors, Path};
use super::names;
use super::values::{not_negative, text};

/// What a probe or a hook may do; exactly one of these.
#[derive(Default)]
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

/// Liveness and startup probes end at the first success.
pub(super) fn liveness(probe: Option<&Probe>, path: &Path, errors: &mut Errors) {
    let Some(probe) = probe else { return };
    self::probe(probe, path, errors);
    let threshold = probe.success_threshold.unwrap_or_default();
    if threshold != 1 {
        errors.invalid(&path.child("successThreshold"), threshold, "must be 1");
    }
}

/// A readiness probe never ends a container.
pub(super) fn readiness(probe: Option<&Probe>, path: &Path, errors: &mut Errors) {
    let Some(probe) = probe else { return };
    self::probe(probe, path, errors);
    if let Some(grace) = probe.termination_grace_period_seconds {
        let detail = "must not be set for readinessProbes";
        errors.invalid(&path.child("terminationGracePeriodSeconds"), grace, detail);
    }
}

fn probe(probe: &Probe, path: &Path, errors: &mut Errors) {
    let what = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    handler(&what, None, path, errors);
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, value) in numbers {
        not_negative(value.unwrap_or_default().into(), &path.child(name), errors);
    }
    if let Some(grace) = probe
        .termination_grace_period_seconds
        .filter(|grace| *grace <= 0)
    {
        let path = path.child("terminationGracePeriodSeconds");
        errors.invalid(&path, grace, "must be greater than 0");
    }
}

pub(super) fn lifecycle(
    lifecycle: &Lifecycle,
    grace: Option<i64>,
    os: Option<&PodOS>,
    path: &Path,
    errors: &mut Errors,
) {
    let hooks = [
        ("postStart", &lifecycle.post_start),
        ("preStop", &lifecycle.pre_stop),
    ];
    for (name, hook) in hooks {
        if let Some(hook) = hook {
            let LifecycleHandler {
                exec,
                http_get,
                tcp_socket,
                sleep,
            } = hook;
            let what = Handler {
                exec: exec.as_ref(),
                http_get: http_get.as_ref(),
                tcp_socket: tcp_socket.as_ref(),
                grpc: None,
                sleep: sleep.as_ref(),
            };
            handler(&what, grace, &path.child(name), errors);
        }
    }
    if let Some(signal) = &lifecycle.stop_signal {
        stop_signal(signal, os, &path.child("stopSignal"), errors);
    }
}

fn handler(what: &Handler<'_>, grace: Option<i64>, path: &Path, errors: &mut Errors) {
    let mut found = false;
    // The first one counts; each further one is refused unread.
    let mut first = |name: &str, present: bool, errors: &mut Errors| {
        if present && std::mem::replace(&mut found, true) {
            errors.forbidden(
                &path.child(name),
                "may not specify more than 1 handler type",
            );
            return false;
        }
        present
    };
    if first("exec", what.exec.is_some(), errors)
        && what
            .exec
            .is_some_and(|exec| exec.command.as_deref().unwrap_or_default().is_empty())
    {
        errors.required(&path.child("exec").child("command"), "");
    }
    if first("httpGet", what.http_get.is_some(), errors)
        && let Some(http) = what.http_get
    {
        self::http_get(http, &path.child("httpGet"), errors);
    }
    if first("tcpSocket", what.tcp_socket.is_some(), errors)
        && let Some(tcp) = what.tcp_socket
    {
        port(&tcp.port, &path.child("tcpSocket").child("port"), errors);
    }
    if first("grpc", what.grpc.is_some(), errors)
        && let Some(grpc) = what.grpc
    {
        port(
            &IntOrString::Int(grpc.port),
            &path.child("grpc").child("port"),
            errors,
        );
    }
    if first("sleep", what.sleep.is_some(), errors)
        && let (Some(sleep), Some(grace)) = (what.sleep, grace)
        && !(1..=grace).contains(&sleep.seconds)
    {
        let detail = format!(
            "must be greater than 0 and less than terminationGracePeriodSeconds ({grace}). Enable \
             AllowPodLifecycleSleepActionZeroValue feature gate for zero sleep."
        );
        errors.invalid(&path.child("sleep"), sleep.seconds, detail);
    }
    if !found {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(http: &HTTPGetAction, path: &Path, errors: &mut Errors) {
    if text(&http.path).is_empty() {
        errors.required(&path.child("path"), "");
    }
    port(&http.port, &path.child("port"), errors);
    let scheme = text(&http.scheme);
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in http.http_headers.iter().flatten() {
        let name = header.name.as_str();
        errors.each(&path.child("httpHeaders"), name, names::header_name(name));
    }
}

fn port(port: &IntOrString, path: &Path, errors: &mut Errors) {
    match port {
        IntOrString::Int(number) => {
            errors.each(path, *number, names::port_number(i64::from(*number)));
        }
        IntOrString::String(name) => errors.each(path, name.as_str(), names::port_name(name)),
    }
}

/// Names of Linux signals that a container may be stopped with, sorted.
const SIGNALS: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

fn stop_signal(signal: &str, os: Option<&PodOS>, path: &Path, errors: &mut Errors) {
    match os.map(|os| os.name.as_str()) {
        None => {
            let detail = "may not be set for containers with empty `spec.os.name`";
            errors.forbidden(path, detail);
        }
        Some("linux") if !SIGNALS.contains(&signal) => {
            errors.not_supported(path, signal, &SIGNALS);
        }
        Some("windows") if !matches!(signal, "SIGKILL" | "SIGTERM") => {
            errors.not_supported(path, signal, &["SIGKILL", "SIGTERM"]);
        }
        Some(_) => {}
    }
}

//! Docker's words for the signal of stop, as the CRI has them.

use cri_api::v1::Signal;

/// Linux's signals from 1 on, without the `SIG` before them.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The signal that Docker sends for what is written as a container's stop signal: a number or a name,
/// with `SIG` or without it, in any case; none is SIGTERM. To kubelets RUNTIME_DEFAULT means that the
/// runtime can't tell (Kubernetes `toKubeContainerStatus`), so it is left for what Docker does not know.
pub(super) fn of_stop(text: &str) -> Signal {
    let name = match text.parse::<usize>() {
        _ if text.is_empty() => "TERM".to_owned(),
        // The C library keeps 32 and 33 to itself; the CRI names the middle of the rest as Docker does.
        Ok(34) => "RTMIN".to_owned(),
        Ok(number @ 35..=49) => format!("RTMIN+{}", number - 34),
        Ok(number @ 50..=63) => format!("RTMAX-{}", 64 - number),
        Ok(64) => "RTMAX".to_owned(),
        Ok(number) => match number.checked_sub(1).and_then(|index| NAMES.get(index)) {
            Some(name) => (*name).to_owned(),
            None => return Signal::RuntimeDefault,
        },
        Err(_) => text.to_ascii_uppercase(),
    };
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let name = name.replace('+', "PLUS").replace('-', "MINUS");
    Signal::from_str_name(&format!("SIG{name}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signal_is_known_by_number_and_by_every_name_and_none_is_sigterm() {
        for (text, expected) in [
            ("", Signal::Sigterm),
            ("SIGQUIT", Signal::Sigquit),
            ("QUIT", Signal::Sigquit),
            ("sigquit", Signal::Sigquit),
            ("3", Signal::Sigquit),
            ("9", Signal::Sigkill),
            ("31", Signal::Sigsys),
            ("34", Signal::Sigrtmin),
            ("37", Signal::Sigrtminplus3),
            ("RTMIN+3", Signal::Sigrtminplus3),
            ("SIGRTMIN+3", Signal::Sigrtminplus3),
            ("49", Signal::Sigrtminplus15),
            ("50", Signal::Sigrtmaxminus14),
            ("SIGRTMAX-1", Signal::Sigrtmaxminus1),
            ("64", Signal::Sigrtmax),
            ("0", Signal::RuntimeDefault),
            ("32", Signal::RuntimeDefault),
            ("65", Signal::RuntimeDefault),
            ("NOSUCH", Signal::RuntimeDefault),
        ] {
            assert_eq!(of_stop(text), expected, "{text}");
        }
        for name in NAMES {
            assert_ne!(of_stop(name), Signal::RuntimeDefault, "{name}");
        }
    }
}

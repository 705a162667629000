//! How a daemon is told to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::TaskGroup;

/// Listens for SIGTERM and SIGINT from its creation on: the first one cancels the token, the second
/// one ends the process at once (kubelet PROC-07).
///
/// Keep it until the very end of `main`, so that a second signal still counts during the drain.
#[derive(Debug)]
pub struct Shutdown {
    token: CancellationToken,
    _listener: TaskGroup,
}

impl Shutdown {
    /// Starts to listen. `second_exit_code` is what a second signal ends the process with.
    ///
    /// # Errors
    /// When a handler cannot be installed. Panics outside a runtime.
    pub fn on_signals(second_exit_code: u8) -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = CancellationToken::new();
        let listener = TaskGroup::new("signals");
        listener.spawn("signals", {
            let token = token.clone();
            async move {
                let name = first(&mut terminate, &mut interrupt).await;
                tracing::info!(signal = name, "shutting down");
                token.cancel();
                let name = first(&mut terminate, &mut interrupt).await;
                tracing::warn!(signal = name, "second signal, exiting now");
                exit_now(second_exit_code);
            }
        });
        Ok(Self {
            token,
            _listener: listener,
        })
    }

    /// Cancelled by the first signal.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}

fn exit_now(code: u8) {
    #[expect(clippy::exit, reason = "the second signal means: at once")]
    std::process::exit(i32::from(code));
}

async fn first(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        biased;
        // cancel-safe: a signal that a dropped `recv` had not returned is seen by the next one.
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// SIGHUP as a stream; installing it stops SIGHUP from ending the process.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the handler cannot be installed. Panics outside a runtime.
    pub fn listen() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next SIGHUP; several at once count as one. Cancel-safe.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a process of our own to signal")]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Lines, Write as _},
        process::{ChildStdout, Command, Stdio},
    };

    use super::*;

    const CHILD: &str = "DAEMON_SIGNALS_TEST_CHILD";

    /// What the process under test does: says when it listens and when it was told to end, and then
    /// never ends by itself.
    fn child() {
        let say = |word: &str| {
            writeln!(io::stdout(), "\n{word}").unwrap();
        };
        crate::runtime(1, "child").unwrap().block_on(async {
            let shutdown = Shutdown::on_signals(7).unwrap();
            say("listening");
            shutdown.token().cancelled().await;
            say("draining");
            std::future::pending::<()>().await;
        });
    }

    fn wait_for(word: &str, lines: &mut Lines<BufReader<ChildStdout>>) {
        assert!(
            lines.any(|line| line.unwrap() == word),
            "the child never said {word}"
        );
    }

    #[test]
    fn first_signal_drains_and_the_second_exits_with_the_code() {
        if std::env::var_os(CHILD).is_some() {
            return child();
        }
        for name in ["TERM", "INT"] {
            let mut process = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--nocapture"])
                .arg("signals::tests::first_signal_drains_and_the_second_exits_with_the_code")
                .env(CHILD, "1")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
            let kill = || {
                let pid = process.id().to_string();
                assert!(
                    Command::new("kill")
                        .args(["-s", name, &pid])
                        .status()
                        .unwrap()
                        .success()
                );
            };
            wait_for("listening", &mut lines);
            kill();
            wait_for("draining", &mut lines);
            kill();
            assert_eq!(process.wait().unwrap().code(), Some(7), "{name}");
        }
    }
}

//! The version that is reported, and `--version` (PROC-04, NODE-11).

use std::fmt;

use daemon::pflag::{parse_bool, quote};

/// What the build asked to report; `v1.34` is taken as `v1.34.0`.
const BUILT_AS: &str = match option_env!("KUBE_VERSION") {
    Some(version) => version,
    None => "v1.34.0",
};

/// A version such as `v1.34.2` or `v1.34.2-demo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    text: String,
}

impl Version {
    /// The version that this program was built to report.
    pub fn built_in() -> Self {
        Self::completed(BUILT_AS)
    }

    /// Adds the patch level that a text such as `v1.34` lacks.
    fn completed(text: &str) -> Self {
        let text = text.trim();
        let text = if text.starts_with('v') {
            text.to_owned()
        } else {
            format!("v{text}")
        };
        match text.split('.').count() {
            2 => Self {
                text: format!("{text}.0"),
            },
            _ => Self { text },
        }
    }

    /// Text with its leading `v`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Major, minor and patch numbers; `None` for a text that is no version.
    pub fn numbers(&self) -> Option<(u64, u64, u64)> {
        let core = self.text.strip_prefix('v').unwrap_or(&self.text);
        let core = core.split(['-', '+']).next()?;
        match core
            .split('.')
            .map(|part| part.parse().ok())
            .collect::<Vec<_>>()[..]
        {
            [Some(major), Some(minor), Some(patch)] => Some((major, minor, patch)),
            _ => None,
        }
    }

    /// Major and minor, as in a `User-Agent`: `1.34`.
    pub fn major_minor(&self) -> String {
        let (major, minor, _) = self.numbers().unwrap_or_default();
        format!("{major}.{minor}")
    }

    /// The line that `--version` prints.
    pub fn line(&self) -> String {
        format!("Kubernetes {self}")
    }

    /// The line that `--version=raw` prints: Go's notation, our compiler.
    pub fn raw_line(&self) -> String {
        let (major, minor, _) = self.numbers().unwrap_or_default();
        format!(
            "version.Info{{Major:\"{major}\", Minor:\"{minor}\", EmulationMajor:\"\", \
             EmulationMinor:\"\", MinCompatibilityMajor:\"\", MinCompatibilityMinor:\"\", \
             GitVersion:\"{self}\", GitCommit:\"\", GitTreeState:\"\", \
             BuildDate:\"1970-01-01T00:00:00Z\", GoVersion:\"\", Compiler:\"rustc\", \
             Platform:\"{}/{}\"}}",
            std::env::consts::OS,
            go_arch()
        )
    }
}

/// Go's name of the processor.
pub(crate) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What `--version` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// `--version=false`, or not given.
    Nothing,
    /// `--version`
    Print,
    /// `--version=raw`
    PrintRaw,
    /// `--version=vX.Y.Z-more`: go on, and report this.
    Report(Version),
}

impl Request {
    /// Reads the flag's value. A version must agree with the built-in one up to the patch level.
    ///
    /// # Errors
    /// Upstream's message.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "raw" {
            return Ok(Self::PrintRaw);
        }
        if !text.starts_with('v') {
            let print = parse_bool(text).map_err(|error| error.to_string())?;
            return Ok(if print { Self::Print } else { Self::Nothing });
        }
        let (asked, own) = (
            Version {
                text: text.to_owned(),
            },
            Version::built_in(),
        );
        match asked.numbers() {
            None if text[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                Err(format!("illegal version string {}", quote(text)))
            }
            None => Err(format!("could not parse {} as version", quote(text))),
            Some(numbers) if Some(numbers) == own.numbers() => Ok(Self::Report(asked)),
            Some(_) => Err(format!(
                "version {} must match major/minor/patch of default version {}",
                quote(text),
                quote(own.as_str())
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_versions_are_completed() {
        assert_eq!(Version::completed("v1.34").as_str(), "v1.34.0");
        assert_eq!(Version::completed("1.34.2").as_str(), "v1.34.2");
        assert_eq!(
            Version::completed("v1.34.2-x.y+z").numbers(),
            Some((1, 34, 2))
        );
        assert_eq!(Version::completed("nonsense").numbers(), None);
    }

    #[test]
    fn version_flag_has_its_forms() {
        assert_eq!(Request::parse("true"), Ok(Request::Print));
        assert_eq!(Request::parse("false"), Ok(Request::Nothing));
        assert_eq!(Request::parse("raw"), Ok(Request::PrintRaw));
        let own = format!("{}-mine", Version::built_in());
        let reported = Version { text: own.clone() };
        assert_eq!(Request::parse(&own), Ok(Request::Report(reported)));
        assert!(
            Request::parse("v9.9.9")
                .expect_err("other")
                .contains("must match major/minor")
        );
        assert_eq!(
            Request::parse("v1.34").expect_err("short"),
            "illegal version string \"v1.34\""
        );
        assert!(
            Request::parse("vx")
                .expect_err("none")
                .contains("as version")
        );
        assert!(
            Request::parse("x")
                .expect_err("none")
                .starts_with("strconv.ParseBool")
        );
        assert!(
            Version::built_in()
                .raw_line()
                .contains("GitVersion:\"v1.34.")
        );
    }
}

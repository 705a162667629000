//! What `/manifests` tells: the node's name, and the files that something is wrong with. Pure.

use serde::Deserialize;

use crate::output;

/// A file that is not used as it is. Read leniently, since any kubelet may answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Broken {
    path: String,
    #[serde(default)]
    errors: Vec<String>,
    /// The pod that it was good for before, and that goes on.
    pod: Option<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Name {
    namespace: String,
    name: String,
}

/// The list.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Manifests {
    /// What the node calls itself.
    pub(super) node: Option<String>,
    /// Manifests that are not used as they are.
    #[serde(rename = "items")]
    pub(super) broken: Vec<Broken>,
}

/// Of its files those with something wrong.
///
/// # Errors
/// When it is no such list.
pub(super) fn parse(body: &[u8]) -> Result<Manifests, serde_json::Error> {
    let mut list: Manifests = serde_json::from_slice(body)?;
    list.broken.retain(|file| !file.errors.is_empty());
    Ok(list)
}

impl Broken {
    /// Whether the pod of that name goes on as the file had it before.
    pub(super) fn keeps(&self, namespace: &str, name: &str) -> bool {
        let pod = self.pod.as_ref();
        pod.is_some_and(|pod| pod.namespace == namespace && pod.name == name)
    }

    /// The file, and what is wrong with it.
    pub(super) fn why(&self) -> String {
        let first = self.errors.first().map(|error| output::brief(error));
        let mut text = format!("{}: {}", self.path, first.unwrap_or_default());
        if self.errors.len() > 1 {
            let more = self.errors.len() - 1;
            text = format!("{text} (and {more} more: berth validate {})", self.path);
        }
        text
    }
}

/// A row for each file that no pod comes from.
pub(super) fn table<'a>(files: impl Iterator<Item = &'a Broken>) -> String {
    let rows: Vec<_> = files
        .map(|file| vec!["no pod".to_owned(), file.why()])
        .collect();
    output::columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_with_errors_count_and_the_first_error_is_told() {
        let list = r#"{"items":[
            {"path":"/m/a.yaml","errors":[],"pod":{"namespace":"default","name":"a-n","uid":"1"}},
            {"path":"/m/b.yaml","errors":["x: Required value","y"],"pod":{"namespace":"default","name":"b-n","uid":"2"}},
            {"path":"/m/c.yaml","errors":["couldn't parse as pod: it\n is no map"]}]}"#;
        let Manifests { node, broken } = parse(list.as_bytes()).unwrap();
        assert_eq!(node, None);
        assert_eq!(broken.len(), 2);
        assert!(broken[0].keeps("default", "b-n") && !broken[0].keeps("other", "b-n"));
        assert_eq!(
            broken[0].why(),
            "/m/b.yaml: x: Required value (and 1 more: berth validate /m/b.yaml)"
        );
        assert!(!broken[1].keeps("default", "b-n"));
        assert_eq!(
            table(broken[1..].iter()),
            "no pod  /m/c.yaml: couldn't parse as pod: it is no map\n"
        );
        assert!(parse(b"404 page not found").is_err());
    }
}

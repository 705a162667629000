//! The text of `<root>/allocated_pods_state` (DIR-11), upstream's own: a kubelet that takes over a node
//! knows what the other one gave.
//!
//! Kubernetes kubelet, `pkg/kubelet/allocation/state` and `pkg/kubelet/checkpointmanager`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Allocation;
use crate::hash::{Fnv1a32, go_json_string};
use crate::ids::PodUid;

/// Why a text is no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not the JSON of one.
    #[error("not a checkpoint")]
    Json(#[from] serde_json::Error),
    /// The content is not what was written.
    #[error("checkpoint is corrupted: its checksum is {actual}, not {told}")]
    Checksum {
        /// As the content has it.
        actual: u64,
        /// As the file says.
        told: u64,
    },
}

#[derive(Deserialize)]
struct File {
    data: String,
    checksum: u64,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    entries: BTreeMap<PodUid, Allocation>,
}

/// The text of a file with these.
pub fn encode(entries: &BTreeMap<&PodUid, &Allocation>) -> String {
    #[derive(Serialize)]
    struct Data<'a> {
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        entries: &'a BTreeMap<&'a PodUid, &'a Allocation>,
    }
    // Texts and numbers only: there is nothing that JSON cannot hold.
    let data = serde_json::to_string(&Data { entries }).unwrap_or_default();
    let checksum = checksum(&data);
    format!(
        r#"{{"data":{},"checksum":{checksum}}}"#,
        go_json_string(&data)
    )
}

/// What a file holds.
///
/// # Errors
/// See [`CheckpointError`].
pub fn decode(text: &str) -> Result<BTreeMap<PodUid, Allocation>, CheckpointError> {
    let file: File = serde_json::from_str(text)?;
    let actual = checksum(&file.data);
    if actual != file.checksum {
        let told = file.checksum;
        return Err(CheckpointError::Checksum { actual, told });
    }
    let data: Data = serde_json::from_str(&file.data)?;
    Ok(data.entries)
}

/// FNV-1a over Go's dump of the text.
fn checksum(data: &str) -> u64 {
    let mut hash = Fnv1a32::new();
    hash.write(b"(string)");
    hash.write(data.as_bytes());
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by upstream 1.34.
    const UPSTREAM: &str = concat!(
        r#"{"data":"{\"entries\":{\"b\\u003cé\":{\"ContainerResources\":{\"a\":{},\"c\":{\"limits\":{\"cpu\":\"500m\"},"#,
        r#"\"requests\":{\"cpu\":\"100m\",\"memory\":\"1Gi\"}}}}}}","checksum":2387403936}"#
    );

    #[test]
    fn dir_11_a_file_of_upstream_is_read_and_ours_is_read_again() {
        let entries = decode(UPSTREAM).unwrap();
        let uid = PodUid::new("b<é");
        assert_eq!(entries.keys().collect::<Vec<_>>(), [&uid]);
        let json = serde_json::to_value(&entries[&uid]).unwrap();
        assert_eq!(json["ContainerResources"]["a"], serde_json::json!({}));
        assert_eq!(json["ContainerResources"]["c"]["requests"]["memory"], "1Gi");
        let again = encode(&entries.iter().collect());
        assert_eq!(decode(&again).unwrap(), entries);
    }

    #[test]
    fn dir_11_an_empty_file_is_written_as_upstream_does() {
        let text = r#"{"data":"{}","checksum":694314937}"#;
        assert_eq!(encode(&BTreeMap::new()), text);
        assert_eq!(decode(text).unwrap(), BTreeMap::new());
    }

    #[test]
    fn a_damaged_file_is_told_from_a_whole_one() {
        let cut = &UPSTREAM[..UPSTREAM.len() / 2];
        assert!(matches!(decode(cut), Err(CheckpointError::Json(_))));
        let other = UPSTREAM.replace("500m", "501m");
        assert!(matches!(
            decode(&other),
            Err(CheckpointError::Checksum { .. })
        ));
    }
}

//! The hash by which a running container is recognised as the one that the pod asks for.
//!
//! Kubernetes kubelet, `HashContainer` (CTR-20): name and image as Go's JSON, that text's bytes as
//! Go's dump of a byte slice, FNV-1a over the dump. Odd, but with it the containers of an upstream
//! kubelet keep running under ours.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Container;

/// The hash of name and image.
pub fn container_hash(container: &Container) -> u64 {
    let json = format!(
        r#"{{"image":{},"name":{}}}"#,
        go_json_string(container.image.as_deref().unwrap_or_default()),
        go_json_string(&container.name)
    );
    let mut hash = Fnv1a32::new();
    hash.write(b"([]uint8)[");
    let mut number = String::new();
    for (index, byte) in json.bytes().enumerate() {
        number.clear();
        if index > 0 {
            number.push(' ');
        }
        // Writing to a string cannot fail.
        let _ = write!(number, "{byte}");
        hash.write(number.as_bytes());
    }
    hash.write(b"]");
    hash.finish()
}

/// The hash as the annotation carries it: lower-case hex without leading zeros.
pub fn hash_text(hash: u64) -> String {
    format!("{hash:x}")
}

/// FNV-1a of 32 bits.
pub(crate) struct Fnv1a32(u32);

impl Fnv1a32 {
    pub(crate) const fn new() -> Self {
        Self(0x811c_9dc5)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    pub(crate) fn finish(&self) -> u64 {
        u64::from(self.0)
    }
}

/// A text as Go's `encoding/json` writes it, HTML characters and line separators escaped.
pub fn go_json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                // Writing to a string cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(character));
            }
            _ => json.push(character),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(name: &str, image: &str) -> String {
        hash_text(container_hash(&Container {
            name: name.to_owned(),
            image: Some(image.to_owned()),
            ..Default::default()
        }))
    }

    #[test]
    fn ctr_20_vector_of_upstream() {
        assert_eq!(hash("test_container", "foo/image:v1"), "8e45cbd0");
    }

    #[test]
    fn ctr_20_only_name_and_image_count() {
        let container = Container {
            name: "a".to_owned(),
            ..Default::default()
        };
        let other = Container {
            args: Some(vec!["x".to_owned()]),
            ..container.clone()
        };
        assert_eq!(container_hash(&container), container_hash(&other));
        assert_ne!(hash("a", "b"), hash("a", "c"));
    }

    #[test]
    fn text_is_escaped_as_go_does() {
        assert_eq!(
            go_json_string("a<b>&\"\\\n\u{1}\u{2028}é\u{7f}"),
            "\"a\\u003cb\\u003e\\u0026\\\"\\\\\\n\\u0001\\u2028é\u{7f}\""
        );
    }
}

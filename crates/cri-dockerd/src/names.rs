//! Container names in Docker (NAM-01, NAM-02): they carry the pod's identity, and upstream finds
//! ours by them as we find upstream's.

use cri_api::v1::{ContainerMetadata, PodSandboxMetadata};

use crate::invalid::Invalid;

const PREFIX: &str = "k8s";
/// The container part of a sandbox's name.
pub(crate) const SANDBOX: &str = "POD";

/// What a name says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Name {
    /// Container name; `POD` for sandboxes.
    pub(crate) container: String,
    /// Pod name.
    pub(crate) pod: String,
    /// Namespace.
    pub(crate) namespace: String,
    /// Pod uid.
    pub(crate) uid: String,
    /// Attempt of the sandbox or of the container.
    pub(crate) attempt: u32,
}

impl Name {
    /// The name of a sandbox.
    ///
    /// Differs: a part with the delimiter is refused (NAM-01); upstream makes a container of that name and
    /// cannot read it again.
    ///
    /// # Errors
    /// [`Invalid`] when a part holds the delimiter or is missing.
    pub(crate) fn sandbox(metadata: &PodSandboxMetadata) -> Result<Self, Invalid> {
        let name = Self {
            container: SANDBOX.to_owned(),
            pod: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            attempt: metadata.attempt,
        };
        name.check().map(|()| name)
    }

    /// The name of a container of a pod.
    ///
    /// # Errors
    /// As [`Name::sandbox`].
    pub(crate) fn container(
        container: &ContainerMetadata,
        pod: &PodSandboxMetadata,
    ) -> Result<Self, Invalid> {
        let name = Self {
            container: container.name.clone(),
            attempt: container.attempt,
            ..Self::sandbox(pod)?
        };
        name.check().map(|()| name)
    }

    fn check(&self) -> Result<(), Invalid> {
        let parts = [
            ("container", &self.container),
            ("pod", &self.pod),
            ("namespace", &self.namespace),
            ("uid", &self.uid),
        ];
        for (field, part) in parts {
            if part.is_empty() || part.contains('_') {
                return Err(Invalid(format!(
                    "metadata: {field} name {part:?} must not be empty or contain \"_\""
                )));
            }
        }
        Ok(())
    }

    /// Reads a name as Docker gives it.
    ///
    /// # Errors
    /// [`Invalid`] in upstream's words when it is not of our form.
    pub(crate) fn parse(docker_name: &str) -> Result<Self, Invalid> {
        let text = docker_name.strip_prefix('/').unwrap_or(docker_name);
        let parts: Vec<&str> = text.split('_').collect();
        // The 7th part is the random one of a name made after a conflict (NAM-05).
        let (&[prefix, container, pod, namespace, uid, attempt]
        | &[prefix, container, pod, namespace, uid, attempt, _]) = parts.as_slice()
        else {
            return Err(Invalid(format!(
                "failed to parse the sandbox name: {docker_name:?}"
            )));
        };
        if prefix != PREFIX {
            let text = format!("container is not managed by kubernetes: {docker_name:?}");
            return Err(Invalid(text));
        }
        let Ok(attempt) = attempt.parse() else {
            return Err(Invalid(format!(
                "failed to parse the sandbox name: {docker_name:?}"
            )));
        };
        Ok(Self {
            container: container.to_owned(),
            pod: pod.to_owned(),
            namespace: namespace.to_owned(),
            uid: uid.to_owned(),
            attempt,
        })
    }

    /// As sandbox metadata.
    pub(crate) fn sandbox_metadata(&self) -> PodSandboxMetadata {
        PodSandboxMetadata {
            name: self.pod.clone(),
            uid: self.uid.clone(),
            namespace: self.namespace.clone(),
            attempt: self.attempt,
        }
    }

    /// As container metadata.
    pub(crate) fn container_metadata(&self) -> ContainerMetadata {
        ContainerMetadata {
            name: self.container.clone(),
            attempt: self.attempt,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            container,
            pod,
            namespace,
            uid,
            attempt,
        } = self;
        write!(f, "{PREFIX}_{container}_{pod}_{namespace}_{uid}_{attempt}")
    }
}

/// The id of the container that holds a name, from the text of Docker's 409 (NAM-05): Docker gives
/// nothing better.
pub(crate) fn conflict_holder(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("is already in use by container ")?;
    let id = rest.trim_start_matches('"');
    let end = id
        .find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit())
        .unwrap_or(id.len());
    (end > 0).then(|| &id[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_can_be_read(
            container in "[a-z0-9.-]{1,20}", pod in "[a-z0-9.-]{1,60}",
            namespace in "[a-z0-9-]{1,20}", uid in "[a-z0-9-]{1,60}", attempt: u32,
        ) {
            let name = Name { container, pod, namespace, uid, attempt };
            prop_assert_eq!(&Name::parse(&format!("/{name}")).unwrap(), &name);
            prop_assert_eq!(&Name::parse(&format!("{name}_1a2b3c4d")).unwrap(), &name);
        }
    }

    #[test]
    fn foreign_names_are_refused_in_upstreams_words() {
        for (name, expected) in [
            ("/web", "failed to parse the sandbox name: \"/web\""),
            (
                "/k8s_a_b_c_d_x",
                "failed to parse the sandbox name: \"/k8s_a_b_c_d_x\"",
            ),
            (
                "/x_a_b_c_d_1",
                "container is not managed by kubernetes: \"/x_a_b_c_d_1\"",
            ),
        ] {
            assert_eq!(Name::parse(name).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn delimiter_in_a_part_is_refused() {
        let metadata = PodSandboxMetadata {
            name: "a_b".into(),
            uid: "u".into(),
            namespace: "n".into(),
            attempt: 0,
        };
        assert!(Name::sandbox(&metadata).is_err());
    }

    #[test]
    fn holder_of_a_name_is_read_from_the_conflict() {
        let text = "Conflict. The container name \"/k8s_a\" is already in use by container \
                    \"6ad2f1\". You have to remove (or rename) that container to be able to reuse that name.";
        assert_eq!(conflict_holder(text), Some("6ad2f1"));
        assert_eq!(
            conflict_holder("is already in use by container 12ab."),
            Some("12ab")
        );
        assert_eq!(conflict_holder("something else"), None);
    }
}

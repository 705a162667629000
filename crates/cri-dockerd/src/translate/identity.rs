//! Users and groups of a container as the CRI's supplemental-groups policy wants them (SEC-01,
//! SEC-02, KEP-3619). Pure.
//!
//! Docker looks the user up in the image's `/etc/passwd` and `/etc/group`. It adds the groups that
//! list the user only if no primary group is given. The CRI's policies are independent of that:
//!
//! | policy | primary group | Docker alone | so |
//! |---|---|---|---|
//! | Merge | not given | merges | nothing to do |
//! | Merge | given | does not merge | the image's groups become extra groups |
//! | Strict | not given | merges | the image's primary group is given |
//! | Strict | given | does not merge | nothing to do |
//!
//! Differs: upstream ignores the policy.

use cri_api::v1::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};

use super::security;
use crate::invalid::Invalid;

/// What an image says about users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImageUsers {
    /// The image's own user; empty for root.
    pub(crate) user: String,
    /// `/etc/passwd`.
    pub(crate) passwd: String,
    /// `/etc/group`.
    pub(crate) group: String,
}

/// User and extra groups in Docker's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `user`, `user:group` or empty for the image's own.
    pub(crate) user: String,
    /// Extra groups.
    pub(crate) groups: Vec<String>,
    /// The answer depends on the image's files, which were not given.
    pub(crate) needs_image: bool,
}

impl ImageUsers {
    /// The line of a user by name or number, as fields.
    fn entry(&self, user: &str) -> Option<Vec<&str>> {
        let lines = self
            .passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let mut entries = lines.filter(|fields| fields.len() >= 4);
        entries.find(|fields| fields[0] == user || fields[2] == user)
    }

    fn primary_group(&self, user: &str) -> String {
        // Docker's default for a number that nobody knows.
        self.entry(user).map_or("0", |fields| fields[3]).to_owned()
    }

    /// The groups that list a user.
    fn groups_of(&self, user: &str) -> Vec<String> {
        let Some(name) = self.entry(user).map(|fields| fields[0]) else {
            return Vec::new();
        };
        let lines = self
            .group
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        lines
            .filter(|fields| fields.len() >= 4 && fields[3].split(',').any(|member| member == name))
            .map(|fields| fields[2].to_owned())
            .collect()
    }
}

/// The identity of a container. `image` is what its image says, as far as that is known.
///
/// # Errors
/// [`Invalid`] for a group without a user.
pub(crate) fn resolve(
    context: &LinuxContainerSecurityContext,
    image: Option<&ImageUsers>,
) -> Result<Identity, Invalid> {
    let user = security::user(
        context.run_as_user.as_ref(),
        &context.run_as_username,
        context.run_as_group.as_ref(),
    )?;
    let mut identity = Identity {
        groups: security::groups(&context.supplemental_groups),
        needs_image: false,
        user,
    };
    let given = context.run_as_group.is_some();
    match (context.supplemental_groups_policy(), given, image) {
        (SupplementalGroupsPolicy::Merge, false, _)
        | (SupplementalGroupsPolicy::Strict, true, _) => {}
        (_, _, None) => identity.needs_image = true,
        (SupplementalGroupsPolicy::Merge, true, Some(image)) => {
            let (name, _) = identity
                .user
                .split_once(':')
                .unwrap_or((&identity.user, ""));
            for group in image.groups_of(name) {
                if !identity.groups.contains(&group) {
                    identity.groups.push(group);
                }
            }
        }
        (SupplementalGroupsPolicy::Strict, false, Some(image)) => {
            if identity.user.is_empty() {
                identity.user.clone_from(&image.user);
            }
            if identity.user.is_empty() {
                "0".clone_into(&mut identity.user);
            }
            if !identity.user.contains(':') {
                let group = image.primary_group(&identity.user);
                identity.user = format!("{}:{group}", identity.user);
            }
        }
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use cri_api::v1::Int64Value;
    use proptest::prelude::*;

    use super::*;

    fn image() -> ImageUsers {
        ImageUsers {
            user: String::new(),
            passwd: "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/:\nbroken\n".to_owned(),
            group:
                "root:x:0:\nalice:x:1001:\nextra:x:50000:bob,alice\nmore:x:7:alice\nno:x:8:alic\n"
                    .to_owned(),
        }
    }

    fn context(
        user: Option<i64>,
        group: Option<i64>,
        policy: SupplementalGroupsPolicy,
    ) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            run_as_user: user.map(|value| Int64Value { value }),
            run_as_group: group.map(|value| Int64Value { value }),
            supplemental_groups: vec![1234],
            supplemental_groups_policy: policy.into(),
            ..Default::default()
        }
    }

    #[test]
    fn policies_hold_with_and_without_a_primary_group() {
        use SupplementalGroupsPolicy::{Merge, Strict};
        for (user, group, policy, expected, groups) in [
            (Some(1000), None, Merge, "1000", vec!["1234"]),
            (
                Some(1000),
                Some(5),
                Merge,
                "1000:5",
                vec!["1234", "50000", "7"],
            ),
            (Some(1000), None, Strict, "1000:1001", vec!["1234"]),
            (Some(1000), Some(5), Strict, "1000:5", vec!["1234"]),
            (Some(4242), None, Strict, "4242:0", vec!["1234"]),
            (Some(4242), Some(5), Merge, "4242:5", vec!["1234"]),
            (None, None, Strict, "0:0", vec!["1234"]),
        ] {
            let found = resolve(&context(user, group, policy), Some(&image())).unwrap();
            assert_eq!((found.user.as_str(), found.needs_image), (expected, false));
            assert_eq!(found.groups, groups);
        }
        let named = LinuxContainerSecurityContext {
            run_as_username: "alice".to_owned(),
            ..context(None, Some(5), Merge)
        };
        let found = resolve(&named, Some(&image())).unwrap();
        assert_eq!((found.user.as_str(), found.groups.len()), ("alice:5", 3));
        let own = ImageUsers {
            user: "alice".to_owned(),
            ..image()
        };
        let found = resolve(&context(None, None, Strict), Some(&own)).unwrap();
        assert_eq!(found.user, "alice:1001");
        let explicit = ImageUsers {
            user: "alice:extra".to_owned(),
            ..image()
        };
        let found = resolve(&context(None, None, Strict), Some(&explicit)).unwrap();
        assert_eq!(found.user, "alice:extra");
        assert!(resolve(&context(None, Some(5), Strict), None).is_err());
    }

    #[test]
    fn image_is_asked_about_only_where_it_matters() {
        use SupplementalGroupsPolicy::{Merge, Strict};
        for (group, policy, needed) in [
            (None, Merge, false),
            (Some(5), Merge, true),
            (None, Strict, true),
            (Some(5), Strict, false),
        ] {
            let found = resolve(&context(Some(1), group, policy), None).unwrap();
            assert_eq!(found.needs_image, needed);
        }
    }

    proptest! {
        #[test]
        fn no_content_of_an_image_breaks_it(passwd in ".{0,200}", group in ".{0,200}") {
            let image = ImageUsers { user: String::new(), passwd, group };
            for policy in [SupplementalGroupsPolicy::Merge, SupplementalGroupsPolicy::Strict] {
                for gid in [None, Some(1)] {
                    let found = resolve(&context(Some(0), gid, policy), Some(&image)).unwrap();
                    prop_assert!(found.user.starts_with('0') && !found.needs_image);
                }
            }
        }
    }
}

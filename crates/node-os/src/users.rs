//! Users and groups, from the files: a static program must not ask NSS (DEC-41).

use std::path::Path;

use crate::read::{self, ReadError};

/// A line of `passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The id.
    pub uid: u32,
    /// The id of the primary group.
    pub gid: u32,
    /// The home directory.
    pub home: String,
}

/// A line of `group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The name.
    pub name: String,
    /// The id.
    pub gid: u32,
    /// The names of those who are in it beside those who have it as primary group.
    pub members: Vec<String>,
}

/// Reads the format of passwd(5). Malformed lines and NIS's `+` lines are passed over, as every
/// reader does.
pub fn parse_passwd(text: &str) -> Vec<User> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields[..] else {
                return None;
            };
            Some(User {
                name: non_empty(name)?,
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                home: home.to_owned(),
            })
        })
        .collect()
}

/// Reads the format of group(5), as [`parse_passwd`].
pub fn parse_group(text: &str) -> Vec<Group> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members, ..] = fields[..] else {
                return None;
            };
            Some(Group {
                name: non_empty(name)?,
                gid: gid.parse().ok()?,
                members: members.split(',').filter_map(non_empty).collect(),
            })
        })
        .collect()
}

fn non_empty(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The users below a root directory (`/` for our own). A missing file means none.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn users(root: &Path) -> Result<Vec<User>, ReadError> {
    let text = read::optional_text(&root.join("etc/passwd"))?;
    Ok(parse_passwd(&text.unwrap_or_default()))
}

/// The groups below a root directory, as [`users`].
///
/// # Errors
/// When the file is there and cannot be read.
pub fn groups(root: &Path) -> Result<Vec<Group>, ReadError> {
    let text = read::optional_text(&root.join("etc/group"))?;
    Ok(parse_group(&text.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_odd_ones_passed_over() {
        let users = parse_passwd(
            "root:x:0:0:root:/root:/bin/sh\n+::::::\nbad:x:one:0::/:\nweb:x:33:34::/srv\n",
        );
        assert_eq!(users.len(), 2);
        assert_eq!(
            (users[1].uid, users[1].gid, users[1].home.as_str()),
            (33, 34, "/srv")
        );
        let groups = parse_group("root:x:0:\ndocker:x:998:ann, bob,\n:x:1:\n");
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[1].members, ["ann", "bob"]);
    }

    #[test]
    fn own_root_has_root() {
        assert_eq!(users(Path::new("/")).unwrap()[0].uid, 0);
        assert_eq!(groups(Path::new("/nonexistent")).unwrap(), []);
    }
}

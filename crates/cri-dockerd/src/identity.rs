//! What images say about users, read where the supplemental-groups policy needs it.
//!
//! Docker tells the files of containers, not of images. So the container is made first, its
//! `/etc/passwd` and `/etc/group` are read, and it is made again in the rare case that they change
//! the answer. An image is read once; after that containers are made right at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cri_api::v1;
use node_os::proc::Proc;

use crate::cgroup;
use crate::engine::{Engine, EngineError, Found};
use crate::lock::lock;
use crate::state::Record;
use crate::translate::identity::ImageUsers;

/// Images that are remembered; a node has a few hundred.
const MAX_IMAGES: usize = 512;
/// Larger files are cut: what counts are the users that images come with.
const MAX_FILE: usize = 256 * 1024;

/// Users by image id. An id never changes its content.
#[derive(Debug, Default)]
pub(crate) struct KnownUsers(Mutex<HashMap<String, Arc<ImageUsers>>>);

impl KnownUsers {
    /// What is known of an image; only ids are, for tags move.
    pub(crate) fn get(&self, image: &str) -> Option<Arc<ImageUsers>> {
        lock(&self.0).get(image).cloned()
    }

    /// Reads the image that a container was made of.
    ///
    /// # Errors
    /// Docker's.
    pub(crate) async fn learn(
        &self,
        engine: &Engine,
        container: &str,
    ) -> Result<Arc<ImageUsers>, EngineError> {
        let inspect = engine.inspect_container(container).await?;
        if let Some(known) = self.get(&inspect.image) {
            return Ok(known);
        }
        let users = Arc::new(ImageUsers {
            passwd: file(engine, container, "/etc/passwd").await?,
            group: file(engine, container, "/etc/group").await?,
            user: engine
                .inspect_image(&inspect.image)
                .await?
                .config
                .unwrap_or_default()
                .user,
        });
        let mut known = lock(&self.0);
        if known.len() >= MAX_IMAGES {
            known.clear();
        }
        known.insert(inspect.image, Arc::clone(&users));
        Ok(users)
    }
}

/// Notes as whom a container's first process began: as it was seen first in this run, also after its end.
/// `asked` is the user that Docker was told. Nothing is noted where the process is out of our sight, or
/// has become another by the first look.
pub(crate) async fn note(record: &mut Record, before: Option<&Record>, asked: &str) {
    let Some(started_at) = record.life.started_at() else {
        return;
    };
    let same = before.filter(|before| before.life.started_at() == Some(started_at));
    if let Some(user) = same.and_then(|before| before.container()?.user.clone()) {
        record.began_as(Some(user));
        return;
    }
    let Some(pid) = record.pid() else {
        return;
    };
    let (id, pid) = (record.id.clone(), u32::try_from(pid).unwrap_or(0));
    let found = daemon::blocking(move || user_of(&Proc::new(), pid, &id)).await;
    record.began_as(found.filter(|user| may_have_begun(asked, user.uid)));
}

/// Whether a process that was begun as `asked` (`user`, `uid`, `uid:gid`, nothing for root) may still be
/// what it was, now that it is seen as `uid`. Only root can become another.
fn may_have_begun(asked: &str, uid: i64) -> bool {
    let user = asked.split(':').next().unwrap_or_default();
    match user.parse::<i64>() {
        Ok(number) => number == uid,
        Err(_) if user.is_empty() || user == "root" => uid == 0,
        // The image's name for somebody else.
        Err(_) => true,
    }
}

/// As whom a process runs, if it is the container's.
fn user_of(proc: &Proc, pid: u32, id: &str) -> Option<v1::LinuxContainerUser> {
    let memberships = proc.cgroups(pid).ok()?;
    if !cgroup::is_of(&memberships, id) {
        return None;
    }
    let found = proc.identity(pid).ok()?;
    Some(v1::LinuxContainerUser {
        uid: found.uid.into(),
        gid: found.gid.into(),
        supplemental_groups: found.groups.into_iter().map(i64::from).collect(),
    })
}

/// A file's text; empty when it is not there. One link is followed, as distributions have them.
async fn file(engine: &Engine, container: &str, path: &str) -> Result<String, EngineError> {
    let mut found = engine.container_file(container, path).await?;
    if let Some(Found::Link(target)) = found {
        let target = if target.starts_with('/') {
            target
        } else {
            format!("/etc/{target}")
        };
        found = engine.container_file(container, &target).await?;
    }
    Ok(match found {
        Some(Found::File(bytes)) => {
            String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_FILE)]).into_owned()
        }
        _ => String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Life;
    use crate::state::tests::{ended, made, running};

    #[tokio::test]
    async fn user_of_a_run_is_kept_to_its_end_and_is_not_the_next_ones() {
        let user = v1::LinuxContainerUser {
            uid: 7,
            gid: 8,
            supplemental_groups: vec![8, 9],
        };
        let of = |record: &Record| record.container().unwrap().user.clone();
        let mut seen = running();
        seen.began_as(Some(user.clone()));
        let mut dead = ended(0);
        note(&mut dead, Some(&seen), "7").await;
        assert_eq!(of(&dead), Some(user.clone()));
        let mut again = ended(0);
        note(&mut again, Some(&dead), "7").await;
        assert_eq!(of(&again), Some(user), "at each further look");

        let mut next = ended(0);
        if let Life::Exited { started_at, .. } = &mut next.life {
            *started_at += 1;
        }
        note(&mut next, Some(&again), "7").await;
        assert_eq!(of(&next), None, "of another run");
        let mut unseen = ended(0);
        note(&mut unseen, Some(&made()), "7").await;
        assert_eq!(of(&unseen), None);
    }

    #[test]
    fn process_that_has_dropped_root_is_not_taken_for_what_it_was() {
        for (asked, uid, expected) in [
            ("", 0, true),
            ("", 999, false),
            ("root:root", 0, true),
            ("root", 999, false),
            ("0:0", 999, false),
            ("999", 999, true),
            ("999:7", 0, false),
            ("postgres", 999, true),
        ] {
            assert_eq!(may_have_begun(asked, uid), expected, "{asked} {uid}");
        }
    }
}

//! Records as callers and subscribers see them.

use std::path::Path;
use std::sync::Arc;

use cri_api::v1;

use super::{Hub, ImageNames};
use crate::clock::now;
use crate::lock::lock;
use crate::state::{self, Cache, Change, Life, Record};

impl Hub {
    /// Changes the cache, and tells those who wait for it and those who listen for events: of one
    /// change before the next is made, so that a container's events come in order.
    pub(super) fn change(&self, apply: impl FnOnce(&mut Cache) -> Option<Change>) {
        let _in_turn = lock(&self.telling);
        let change = apply(&mut lock(&self.cache));
        if let Some(change) = change {
            self.publish(change);
        }
    }

    fn publish(&self, change: Change) {
        self.revision.send_modify(|revision| *revision += 1);
        if change
            .events
            .contains(&v1::ContainerEventType::ContainerDeletedEvent)
        {
            self.logs.removed(&change.record.id);
        }
        if self.events.receiver_count() == 0 {
            return;
        }
        let pod_id = change.record.pod_id();
        let (pod, containers) = {
            let cache = lock(&self.cache);
            (cache.get(pod_id), cache.containers_of(pod_id))
        };
        let gone = change.record.sandbox().is_some().then(|| {
            let mut last = (*change.record).clone();
            if last.life.is_running() {
                last.life = Life::Created;
            }
            Arc::new(last)
        });
        let pod = pod.or(gone).and_then(|pod| state::sandbox_status(&pod));
        let containers: Vec<_> = containers
            .iter()
            .filter_map(|record| self.container_status(record))
            .collect();
        for kind in change.events {
            let event = state::event(
                kind,
                &change.record.id,
                now(),
                pod.clone(),
                containers.clone(),
            );
            // Nobody listening any more is fine.
            drop(self.events.send(Arc::new(event)));
        }
    }

    /// The running pod that has a host port, as `pod "namespace/name"`; `port` is
    /// `ADDRESS:PORT/PROTOCOL`, perhaps without the protocol.
    pub(crate) fn holder_of_port(&self, port: &str) -> Option<String> {
        let (address, protocol) = port.split_once('/').unwrap_or((port, ""));
        let number: i32 = address.rsplit_once(':')?.1.parse().ok()?;
        let records = lock(&self.cache).all();
        let mut running = records.iter().filter(|record| record.life.is_running());
        let holds = |record: &&Arc<Record>| {
            let ports = record.sandbox().map(|facts| facts.ports.iter());
            ports.into_iter().flatten().any(|own| {
                own.host_port == Some(number)
                    && (protocol.is_empty() || own.protocol.as_deref() == Some(protocol))
            })
        };
        let name = &running.find(holds)?.name;
        Some(format!("pod \"{}/{}\"", name.namespace, name.pod))
    }

    /// The status of a container from memory; `None` for sandboxes.
    pub(crate) fn container_status(&self, record: &Record) -> Option<v1::ContainerStatus> {
        let names = lock(&self.images).get(&record.image_id).cloned();
        let names = names.map(|names| {
            let image = names.image.clone().unwrap_or_else(|| record.image.clone());
            (image, names.image_ref.clone())
        });
        let mut status = state::container_status(record, names)?;
        for mount in &mut status.mounts {
            let named = self.paths.named(Path::new(&mount.host_path));
            mount.host_path = named.to_string_lossy().into_owned();
        }
        Some(status)
    }

    /// Makes sure that the names of an image are known, for statuses; asks Docker at most once per
    /// image and image event. A failure is not one: the container's own words are used then.
    pub(crate) async fn load_image_names(&self, image_id: &str) {
        if image_id.is_empty() || lock(&self.images).contains_key(image_id) {
            return;
        }
        let generation = self.image_generation();
        let names = match self.engine.inspect_image(image_id).await {
            Ok(image) => ImageNames {
                image: image.repo_tags.into_iter().next(),
                image_ref: match image.repo_digests.first() {
                    Some(digest) => format!("docker-pullable://{digest}"),
                    None => format!("docker://{image_id}"),
                },
            },
            Err(error) if error.is_not_found() => ImageNames {
                image: None,
                image_ref: format!("docker://{image_id}"),
            },
            Err(error) => {
                tracing::debug!(image = image_id, %error, "names of an image are unknown");
                return;
            }
        };
        if self.image_generation() == generation {
            lock(&self.images).insert(image_id.to_owned(), Arc::new(names));
        }
    }
}

//! Who is listed.

use cri_api::v1;

use crate::fake_cri::objects::{FakeContainer, FakeSandbox};

type Labels = std::collections::BTreeMap<String, String>;

fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

fn id_selects(wanted: &str, id: &str) -> bool {
    wanted.is_empty() || id.starts_with(wanted)
}

pub(super) fn sandbox_passes(filter: Option<&v1::PodSandboxFilter>, sandbox: &FakeSandbox) -> bool {
    filter.is_none_or(|filter| {
        id_selects(&filter.id, &sandbox.id)
            && filter
                .state
                .as_ref()
                .is_none_or(|wanted| wanted.state == i32::from(sandbox.state))
            && selects(&filter.label_selector, &sandbox.config.labels)
    })
}

pub(super) fn container_passes(
    filter: Option<&v1::ContainerFilter>,
    container: &FakeContainer,
) -> bool {
    filter.is_none_or(|filter| {
        id_selects(&filter.id, &container.id)
            && id_selects(&filter.pod_sandbox_id, &container.sandbox_id)
            && filter
                .state
                .as_ref()
                .is_none_or(|wanted| wanted.state == i32::from(container.state))
            && selects(&filter.label_selector, &container.config.labels)
    })
}

use proptest::prelude::*;

use super::*;

fn pod(name: &str, uid: &str, image: &str) -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.uid = Some(uid.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.containers = vec![k8s_openapi::api::core::v1::Container {
        name: "c".to_owned(),
        image: Some(image.to_owned()),
        ..Default::default()
    }];
    Arc::new(pod)
}

fn annotated(pod: &Pod, key: &str, value: &str) -> Arc<Pod> {
    let mut pod = pod.clone();
    pod.metadata
        .annotations
        .get_or_insert_default()
        .insert(key.to_owned(), value.to_owned());
    Arc::new(pod)
}

fn plan(current: &[Arc<Pod>], desired: &[Arc<Pod>]) -> PodsPlan {
    plan_pods(current, desired, Duplicates::KeepLast)
}

#[test]
fn src_40_changed_uid_is_removed_and_added() {
    let (old, new) = (pod("web", "1", "a"), pod("web", "2", "b"));
    let plan = plan(std::slice::from_ref(&old), std::slice::from_ref(&new));
    assert_eq!((plan.remove, plan.add), (vec![old], vec![new]));
    assert!(plan.update.is_empty());
}

#[test]
fn src_41_same_uid_is_updated() {
    let (old, new) = (pod("web", "1", "a"), pod("web", "1", "b"));
    let plan = plan(&[old], std::slice::from_ref(&new));
    assert_eq!(
        plan,
        PodsPlan {
            update: vec![new],
            ..Default::default()
        }
    );
}

#[test]
fn src_43_missing_pod_is_removed() {
    let old = pod("web", "1", "a");
    let plan = plan(std::slice::from_ref(&old), &[]);
    assert_eq!(
        plan,
        PodsPlan {
            remove: vec![old],
            ..Default::default()
        }
    );
}

#[test]
fn src_47_bookkeeping_annotations_are_no_change_and_first_seen_stays() {
    let old = annotated(&pod("web", "1", "a"), CONFIG_SEEN, "monday");
    let new = annotated(&pod("web", "1", "a"), CONFIG_SEEN, "tuesday");
    assert!(plan(std::slice::from_ref(&old), &[new]).is_empty());
    let changed = annotated(&pod("web", "1", "b"), CONFIG_SEEN, "tuesday");
    let plan = plan(&[old], &[changed]);
    assert_eq!(
        crate::spec::annotation(&plan.update[0], CONFIG_SEEN),
        Some("monday")
    );
}

#[test]
fn src_47_status_alone_reconciles_and_deletion_deletes() {
    let old = pod("web", "1", "a");
    let mut status = (*old).clone();
    status.status.get_or_insert_default().phase = Some("Running".to_owned());
    assert_eq!(
        plan(std::slice::from_ref(&old), &[Arc::new(status)])
            .reconcile
            .len(),
        1
    );
    let mut deleted = (*old).clone();
    deleted.metadata.deletion_grace_period_seconds = Some(1);
    deleted.metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
    );
    assert_eq!(plan(&[old], &[Arc::new(deleted)]).delete.len(), 1);
}

#[test]
fn src_07_last_of_one_name_wins_and_src_46_first_of_a_fetched_list() {
    let (first, second) = (pod("web", "1", "a"), pod("web", "2", "b"));
    let list = [Arc::clone(&first), Arc::clone(&second)];
    let last = plan_pods(&[], &list, Duplicates::KeepLast);
    assert_eq!(
        (last.add, last.dropped),
        (vec![Arc::clone(&second)], vec![Arc::clone(&first)])
    );
    let kept = plan_pods(&[], &list, Duplicates::KeepFirst);
    assert_eq!((kept.add, kept.dropped), (vec![first], vec![second]));
}

#[test]
fn two_names_with_one_uid_are_one_pod() {
    let list = [pod("a", "1", "x"), pod("b", "1", "x")];
    let plan = plan_pods(&[], &list, Duplicates::KeepLast);
    assert_eq!((plan.add.len(), plan.dropped.len()), (1, 1));
}

fn any_pods() -> impl Strategy<Value = Vec<Arc<Pod>>> {
    proptest::collection::vec((0..4_u8, 0..6_u8, 0..3_u8), 0..8).prop_map(|pods| {
        let pods = pods.into_iter().map(|(name, uid, image)| {
            pod(
                &format!("n{name}"),
                &format!("u{uid}"),
                &format!("i{image}"),
            )
        });
        without_duplicates(&pods.collect::<Vec<_>>(), Duplicates::KeepLast).0
    })
}

proptest! {
    #[test]
    fn applied_plan_leaves_nothing_to_do(current in any_pods(), desired in any_pods()) {
        let changes = plan(&current, &desired);
        let gone = |pod: &Arc<Pod>| {
            let uid = PodUid::of(pod);
            changes.remove.iter().chain(&changes.update).any(|gone| PodUid::of(gone) == uid)
        };
        let mut model: Vec<_> = current.iter().filter(|pod| !gone(pod)).cloned().collect();
        model.extend(changes.add.iter().chain(&changes.update).cloned());
        prop_assert!(plan(&model, &desired).is_empty());
    }

    #[test]
    fn order_of_the_input_is_irrelevant(current in any_pods(), desired in any_pods()) {
        let reversed = |pods: &[Arc<Pod>]| pods.iter().rev().cloned().collect::<Vec<_>>();
        prop_assert_eq!(plan(&current, &desired), plan(&reversed(&current), &reversed(&desired)));
    }
}

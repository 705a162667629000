use super::*;

fn pod(cpu: &str, memory: &str) -> Arc<Pod> {
    let text = format!(
        r#"{{"metadata": {{"name": "a", "uid": "1"}}, "spec": {{
            "initContainers": [
                {{"name": "once", "resources": {{"requests": {{"cpu": "{cpu}"}}}}}},
                {{"name": "side", "restartPolicy": "Always", "resources": {{"requests": {{"cpu": "{cpu}"}}}}}}
            ],
            "containers": [{{"name": "main", "resources": {{"requests": {{"cpu": "{cpu}", "memory": "{memory}"}}}}}}]
        }}}}"#
    );
    Arc::new(serde_json::from_str(&text).unwrap())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn requests(pod: &Pod) -> Vec<String> {
    let init = spec::init_containers(pod).iter();
    init.chain(spec::containers(pod))
        .filter_map(|container| container.resources.clone().unwrap_or_default().requests)
        .flat_map(BTreeMap::into_values)
        .map(|amount| amount.0)
        .collect()
}

#[test]
fn ctr_52_regular_containers_and_sidecars_keep_what_they_were_given() {
    let mut allocated = Allocated::new(pod("1", "1Gi"), None, at(1));
    assert_eq!(allocated.pending, None);
    allocated.update(&pod("2", "2Gi"), at(2));
    // An init container that ends is no container that could be resized.
    assert_eq!(requests(&allocated.pod), ["2", "1", "1", "1Gi"]);
    let pending = allocated.pending.unwrap();
    assert_eq!(
        (pending.type_.as_str(), pending.status.as_str()),
        ("PodResizePending", "True")
    );
    assert_eq!(pending.reason.as_deref(), Some("Infeasible"));
    assert_eq!(
        pending.message.as_deref(),
        Some("In-place resize of static-pods is not supported")
    );
    assert_eq!(pending.last_transition_time, Some(Time(at(2))));
}

#[test]
fn ctr_52_another_resize_keeps_the_time_and_taking_it_back_ends_it() {
    let mut allocated = Allocated::new(pod("1", "1Gi"), None, at(1));
    allocated.update(&pod("2", "1Gi"), at(2));
    allocated.update(&pod("3", "1Gi"), at(3));
    let pending = allocated.pending.clone().unwrap();
    assert_eq!(pending.last_transition_time, Some(Time(at(2))));
    assert_eq!(pending.last_probe_time, Some(Time(at(3))));
    // The same amount, written otherwise.
    allocated.update(&pod("1000m", "1024Mi"), at(4));
    assert_eq!(allocated.pending, None);
    assert_eq!(
        requests(&allocated.pod),
        ["1000m", "1000m", "1000m", "1024Mi"]
    );
}

/// Kubernetes kubelet, `recordContainerResizeOperations`.
#[test]
fn ctr_52_each_amount_that_an_edit_changes_is_told() {
    let pod = |requests: &str, limits: &str| -> Arc<Pod> {
        let text = format!(
            r#"{{"metadata": {{"name": "a"}}, "spec": {{"containers": [
                {{"name": "c", "resources": {{"requests": {{{requests}}}, "limits": {{{limits}}}}}}}]}}}}"#
        );
        Arc::new(serde_json::from_str(&text).unwrap())
    };
    let mut allocated = Allocated::new(pod(r#""cpu": "1""#, r#""memory": "1Gi""#), None, at(1));
    let mut told = |requests: &str, limits: &str| {
        let asked = allocated.update(&pod(requests, limits), at(2));
        let words = asked.resizes.iter();
        let words = words.map(|r| format!("{} {} {}", r.operation, r.resource, r.requirement));
        (words.collect::<Vec<_>>(), asked.infeasible)
    };
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        told(r#""cpu": "2""#, r#""memory": "1Gi", "cpu": "3""#),
        (words(&["increase cpu requests", "add cpu limits"]), true)
    );
    assert_eq!(
        told(r#""cpu": "2000m""#, r#""memory": "512Mi", "cpu": "0""#),
        (
            words(&["decrease memory limits", "remove cpu limits"]),
            true
        )
    );
    assert_eq!(
        told(r#""cpu": "2""#, r#""memory": "512Mi""#),
        (vec![], false)
    );
    // What it has.
    assert_eq!(
        told(r#""cpu": "1""#, r#""memory": "1Gi""#),
        (
            words(&["increase memory limits", "decrease cpu requests"]),
            false
        )
    );
}

#[test]
fn ctr_52_an_edit_of_something_else_is_taken_in_and_leaves_what_is_told() {
    let mut allocated = Allocated::new(pod("1", "1Gi"), None, at(1));
    let renamed = |pod: &Pod, name: &str| {
        let mut pod = pod.clone();
        pod.spec.as_mut().unwrap().containers[0].name = name.to_owned();
        Arc::new(pod)
    };
    let other = renamed(&pod("1", "1Gi"), "other");
    allocated.update(&other, at(2));
    assert!(Arc::ptr_eq(&allocated.pod, &other));
    assert_eq!(allocated.pending, None);
    // The container that came later was given nothing yet, the sidecar was.
    allocated.update(&renamed(&pod("2", "2Gi"), "other"), at(3));
    assert_eq!(requests(&allocated.pod), ["2", "1", "2", "2Gi"]);
    let told = allocated.pending.clone();
    assert!(told.is_some());
    let mut image = Pod::clone(&renamed(&pod("2", "2Gi"), "other"));
    image.spec.as_mut().unwrap().containers[0].image = Some("x".to_owned());
    allocated.update(&Arc::new(image), at(4));
    assert_eq!(allocated.pending, told);
    assert_eq!(
        spec::containers(&allocated.pod)[0].image.as_deref(),
        Some("x")
    );
}

#[test]
fn ctr_52_resources_other_than_cpu_and_memory_stay_in_silence_until_the_next_start() {
    let with_storage = |amount: &str| {
        let mut pod = Pod::clone(&pod("1", "1Gi"));
        let container = &mut pod.spec.as_mut().unwrap().containers[0];
        let requests = container.resources.as_mut().unwrap().requests.as_mut();
        let amount = ApiQuantity(amount.to_owned());
        requests
            .unwrap()
            .insert("ephemeral-storage".to_owned(), amount);
        Arc::new(pod)
    };
    let mut allocated = Allocated::new(with_storage("1Gi"), None, at(1));
    let more = with_storage("2Gi");
    allocated.update(&more, at(2));
    assert_eq!(allocated.pending, None);
    assert_eq!(requests(&allocated.pod), ["1", "1", "1", "1Gi", "1Gi"]);
    let next = Allocated::new(more, Some(allocated.allocation()), at(3));
    assert_eq!(requests(&next.pod), ["1", "1", "1", "1Gi", "1Gi"]);
    assert!(next.pending.is_some());
}

#[test]
fn ctr_52_what_an_earlier_process_gave_is_kept_and_what_it_did_not_know_is_given() {
    let before = Allocated::new(pod("1", "1Gi"), None, at(1));
    let mut edited = Pod::clone(&pod("2", "2Gi"));
    let containers = &mut edited.spec.as_mut().unwrap().containers;
    let mut new = containers[0].clone();
    new.name = "new".to_owned();
    containers.push(new);
    let after = Allocated::new(Arc::new(edited), Some(before.allocation()), at(5));
    assert_eq!(requests(&after.pod), ["2", "1", "1", "1Gi", "2", "2Gi"]);
    assert_eq!(
        after.pending.as_ref().unwrap().last_transition_time,
        Some(Time(at(5)))
    );
    assert_eq!(after.allocation(), &Allocation::of(&after.pod));
}

use super::*;

fn container(id: &str, uid: Option<&str>, is_sandbox: bool, is_marked: bool) -> FoundContainer {
    FoundContainer {
        id: id.to_owned(),
        name: format!("k8s_{id}"),
        uid: uid.map(str::to_owned),
        pod: format!("default/{}", uid.unwrap_or("none")),
        is_sandbox,
        is_marked,
    }
}

fn group(path: &str, uid: Option<&str>, is_busy: bool) -> Group {
    Group {
        path: CgroupPath::new(path).unwrap(),
        uid: uid.map(str::to_owned),
        is_busy,
    }
}

fn found() -> Found {
    Found {
        containers: vec![
            container("s1", Some("u-1"), true, true),
            container("c1", Some("u-1"), false, false),
            container("s2", Some("u-2"), true, false),
            container("x", None, false, false),
        ],
        pod_dirs: vec![("u-1".into(), "/r/pods/u-1".into())],
        log_dirs: vec![
            ("u-1".into(), "/l/d_a_u-1".into()),
            ("u-2".into(), "/l/d_b_u-2".into()),
            ("u-9".into(), "/l/d_gone_u-9".into()),
        ],
        links: vec![
            ("u-1".into(), "/links/a.log".into()),
            ("u-2".into(), "/links/b.log".into()),
        ],
        mounts: vec![
            (Some("u-1".into()), "/r/pods/u-1/v".into()),
            (Some("u-1".into()), "/r/pods/u-1/v/sub".into()),
        ],
        groups: vec![
            group("/kubepods/burstable/podu_1", Some("u_1"), true),
            group("/kubepods/burstable", None, true),
            group("/kubepods/podu-2", Some("u-2"), true),
            group("/kubepods", None, true),
        ],
        checkpoints: vec![
            ("s1".into(), "/c/s1".into()),
            ("s2".into(), "/c/s2".into()),
            ("gone".into(), "/c/gone".into()),
        ],
        ..Found::default()
    }
}

fn attachment(id: &str, engine: &str) -> Attachment {
    Attachment {
        id: id.to_owned(),
        pod: format!("default/{id}"),
        engine: engine.to_owned(),
    }
}

#[test]
fn networks_are_given_back_before_the_sandboxes_go() {
    let mut found = Found {
        networks: vec![
            attachment("s1", ""),
            attachment("s2", "here"),
            attachment("lost", "here"),
            attachment("elsewhere", "there"),
            attachment("of-upstream", ""),
        ],
        engine: Some("here".to_owned()),
        ..found()
    };
    let detached = |found: &Found| {
        let mut lines = lines(&plan(found, Others::Left));
        lines.retain(|line| line.starts_with("detach"));
        lines
    };
    let of = |id: &str| format!("detach  pod default/{id} from its CNI network (sandbox {id})");
    assert_eq!(detached(&found), [of("s1"), of("lost")]);
    let all = lines(&plan(&found, Others::Left));
    assert_eq!(all[0], "remove  container k8s_c1 (pod default/u-1)");
    assert_eq!(all[3], "remove  container k8s_s1 (pod default/u-1)");
    found.kubelet_runs = true;
    assert_eq!(detached(&found), [of("s1")]);
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}

#[test]
fn only_what_is_ours_goes_and_in_order() {
    let plan = plan(&found(), Others::Left);
    assert_eq!(
        lines(&plan),
        [
            "remove  container k8s_c1 (pod default/u-1)",
            "remove  container k8s_s1 (pod default/u-1)",
            "remove  link /links/a.log",
            "remove  cgroup /kubepods/burstable/podu_1",
            "remove  cgroup /kubepods/burstable",
            "unmount /r/pods/u-1/v/sub",
            "unmount /r/pods/u-1/v",
            "remove  /r/pods/u-1",
            "remove  /l/d_a_u-1",
            "remove  /l/d_gone_u-9",
            "remove  /c/s1",
            "remove  /c/gone",
        ]
    );
    assert_eq!(
        plan.left,
        [
            "cgroup /kubepods/podu-2: not this node's",
            "container k8s_x: it has no pod",
            "pod default/u-2: another kubelet made it (--all-pods takes it too)",
        ]
    );
}

#[test]
fn all_pods_go_when_that_is_asked_for() {
    let plan = plan(&found(), Others::Taken);
    let lines = lines(&plan);
    for wanted in [
        "remove  container k8s_s2 (pod default/u-2)",
        "remove  cgroup /kubepods",
        "remove  /c/s2",
        "remove  /l/d_b_u-2",
    ] {
        assert!(
            lines.iter().any(|line| line == wanted),
            "{wanted}: {lines:#?}"
        );
    }
    assert_eq!(plan.left, ["container k8s_x: it has no pod"]);
}

#[test]
fn busy_groups_of_pods_that_docker_does_not_know_stay() {
    let found = Found {
        groups: vec![
            group("/kubepods/podu-7", Some("u-7"), true),
            group("/kubepods/podu-8", Some("u-8"), false),
            group("/kubepods", None, true),
        ],
        ..Found::default()
    };
    let plan = plan(&found, Others::Left);
    assert_eq!(lines(&plan), ["remove  cgroup /kubepods/podu-8"]);
}

#[test]
fn shares_go_when_no_kubelet_can_use_them() {
    let mut found = Found {
        shares: vec!["/run/berth/shared/v".into()],
        ..Found::default()
    };
    assert_eq!(
        lines(&plan(&found, Others::Left)),
        ["unmount /run/berth/shared/v"]
    );
    found.kubelet_runs = true;
    let plan = plan(&found, Others::Left);
    assert_eq!(plan.steps, []);
    assert_eq!(
        plan.left,
        ["share /run/berth/shared/v: a kubelet runs here"]
    );
}

#[test]
fn a_clean_machine_has_no_steps() {
    assert_eq!(plan(&Found::default(), Others::Taken), Plan::default());
}

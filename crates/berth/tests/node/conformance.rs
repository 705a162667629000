//! What upstream's node conformance tests ask of a node, as static pods: many in one node at once.
//!
//! The tables in `conformance/` name the tests by the ids of `docs/CONFORMANCE.md`. Of each pod they
//! say what `/pods` shows of it in the end (`becomes`, `stays`; see [`pattern`]), what its logs have
//! (`says`), what it noted in this order (`order`, or `within` where others may note something
//! between), and which hooks called (`hears`).

mod hooks;
mod pattern;

use std::{
    collections::BTreeSet, fmt::Write as _, fs, os::unix::fs::PermissionsExt as _, time::Duration,
};

use serde_json::{Value, json};
use testkit::{DockerEngine, at_once, eventually};

use crate::harness::Node;
use hooks::HookServer;

const CONTENT: &str = include_str!("conformance/content.yaml");
const LIFECYCLE: &str = include_str!("conformance/lifecycle.yaml");
const DOCUMENT: &str = include_str!("../../../../docs/CONFORMANCE.md");
/// So many pods live at once: all of a table, unless the machine is slow.
const AT_ONCE: usize = 60;
/// Everything that is asked of them has happened within this.
const PATIENCE: Duration = Duration::from_mins(5);
/// The test image with `ENTRYPOINT ["/bin/echo", "entry"]` and `CMD ["cmd"]`.
const ENTRY_IMAGE: &str = "berth.test/entry:1";

/// One pod of a table.
struct Case(Value);

/// Where a case runs.
struct Place {
    node: Node,
    hooks: HookServer,
}

impl Case {
    fn name(&self) -> &str {
        self.0["name"].as_str().expect("each case has a name")
    }

    fn rows(&self) -> impl Iterator<Item = &str> {
        let rows = self.0["rows"].as_str().expect("each case names its rows");
        rows.split(' ')
    }

    fn is_refused(&self) -> bool {
        self.0["refused"] == true
    }

    /// The manifest; `NOTES` in it is a directory of the case's own on the host.
    fn manifest(&self, place: &Place) -> String {
        let mut metadata = self.0["metadata"].clone();
        metadata["name"] = self.0["name"].clone();
        let mut spec = self.0["spec"].clone();
        for (field, usual) in [
            ("terminationGracePeriodSeconds", json!(2)),
            ("restartPolicy", json!("Never")),
        ] {
            if spec[field].is_null() {
                spec[field] = usual;
            }
        }
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
            .to_string()
            .replace("ENTRY_IMAGE", ENTRY_IMAGE)
            .replace("\"HOOK_PORT\"", &place.hooks.port().to_string())
            .replace("NOTES", &self.notes(&place.node))
    }

    fn notes(&self, node: &Node) -> String {
        let path = node.path(&format!("notes/{}", self.name()));
        path.display().to_string()
    }

    /// Whether everything that the case asks for is there; what is not, otherwise.
    fn is_met(&self, place: &Place, pods: &Value) -> Result<(), String> {
        let name = format!("{}-n", self.name());
        let all = pods["items"].as_array().map_or(&[][..], Vec::as_slice);
        let pod = all.iter().find(|pod| pod["metadata"]["name"] == *name);
        if self.is_refused() {
            return pod.map_or(Ok(()), |pod| Err(format!("it is there: {pod}")));
        }
        let status = &pod.ok_or("it is not in /pods")?["status"];
        for wanted in [&self.0["becomes"], &self.0["stays"]] {
            if wanted.is_object() {
                pattern::matches(wanted, status)?;
            }
        }
        for (log, texts) in self.0["says"].as_object().into_iter().flatten() {
            let (container, instance) = log.split_once('/').unwrap_or((log, "0"));
            let instance = instance.parse().unwrap();
            let log = place.node.log(self.name(), container, instance);
            if let Some(text) = texts_of(texts).find(|text| !log.contains(text)) {
                return Err(format!("{container} does not say {text:?} but {log:?}"));
            }
        }
        let noted = format!("{}/order", self.notes(&place.node));
        let noted = fs::read_to_string(noted).unwrap_or_default();
        let mut lines = noted.lines();
        if self.0["order"].is_array() && !lines.clone().eq(texts_of(&self.0["order"])) {
            return Err(format!("{} is wanted, not {noted:?}", self.0["order"]));
        }
        if !texts_of(&self.0["within"]).all(|text| lines.any(|line| line == text)) {
            let within = &self.0["within"];
            return Err(format!("{within} is wanted among others, not {noted:?}"));
        }
        let heard = place.hooks.heard();
        match texts_of(&self.0["hears"]).find(|call| !heard.contains(*call)) {
            Some(call) => Err(format!("{call:?} was not called, but {heard:?}")),
            None => Ok(()),
        }
    }
}

fn texts_of(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().map(|text| {
        text.as_str()
            .expect("what is said, noted and heard is text")
    })
}

fn table(text: &str) -> Vec<Case> {
    let limits = kubelet_core::yaml::Limits::default();
    let value = kubelet_core::yaml::to_json(text.as_bytes(), limits).unwrap();
    let Value::Array(cases) = value else {
        panic!("a table is a list")
    };
    cases.into_iter().map(Case).collect()
}

/// Which of the cases are not as they should be, and why.
fn unmet<'a>(
    cases: impl Iterator<Item = &'a Case>,
    place: &Place,
    met: &mut BTreeSet<&'a str>,
) -> Result<(), String> {
    place.hooks.serve();
    let pods = place.node.read_only("/pods")?;
    let pods = serde_json::from_str(&pods).map_err(|error| format!("/pods: {error}"))?;
    let mut unmet = String::new();
    for case in cases {
        if met.contains(case.name()) {
            continue;
        }
        match case.is_met(place, &pods) {
            Ok(()) => {
                met.insert(case.name());
            }
            Err(why) => writeln!(unmet, "{}: {why}", case.name()).unwrap(),
        }
    }
    if unmet.is_empty() { Ok(()) } else { Err(unmet) }
}

fn run(text: &str) {
    let (node, hooks) = (Node::start(), HookServer::start());
    entry_image(&node.engine, node.image);
    let place = Place { node, hooks };
    for cases in table(text).chunks(at_once(AT_ONCE)) {
        run_at_once(cases, &place);
    }
}

fn run_at_once(cases: &[Case], place: &Place) {
    for case in cases {
        let notes = case.notes(&place.node);
        fs::create_dir_all(&notes).unwrap();
        fs::set_permissions(&notes, fs::Permissions::from_mode(0o777)).unwrap();
        let file = format!("{}.yaml", case.name());
        place.node.apply(&file, &case.manifest(place));
    }
    // A state that passes counts when it is seen; at the end those that stay are looked at again.
    let mut met = BTreeSet::new();
    eventually(PATIENCE, || unmet(cases.iter(), place, &mut met));
    let staying = cases
        .iter()
        .filter(|case| case.0["stays"].is_object() || case.is_refused());
    unmet(staying, place, &mut BTreeSet::new()).unwrap();
    for case in cases {
        place.node.remove(&format!("{}.yaml", case.name()));
    }
    place.node.eventually("the pods are gone", || {
        let pods: Value = serde_json::from_str(&place.node.read_only("/pods")?).unwrap_or_default();
        match pods["items"].as_array() {
            Some(items) if !items.is_empty() => Err(format!("{} are there", items.len())),
            _ => Ok(()),
        }
    });
}

/// Makes [`ENTRY_IMAGE`] out of the test image.
fn entry_image(engine: &DockerEngine, image: &str) {
    let container = engine.json("POST", "/containers/create", &json!({"Image": image}));
    let id = container["Id"].as_str().unwrap();
    let config =
        json!({"Entrypoint": ["/bin/echo", "entry"], "Cmd": ["cmd"], "WorkingDir": "/home"});
    let (repository, tag) = ENTRY_IMAGE.split_once(':').unwrap();
    let path = format!("/commit?container={id}&repo={repository}&tag={tag}");
    engine.json("POST", &path, &config);
    engine
        .request("DELETE", &format!("/containers/{id}"), None)
        .expect_success("remove");
}

#[test]
fn containers_get_what_their_manifests_promise() {
    run(CONTENT);
}

#[test]
fn pods_live_and_end_as_their_manifests_say() {
    run(LIFECYCLE);
}

#[test]
fn the_document_says_of_each_row_where_it_is_tested() {
    let cases = [CONTENT, LIFECYCLE].into_iter().flat_map(table);
    let tested: BTreeSet<String> = cases
        .flat_map(|case| case.rows().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let documented: BTreeSet<String> = DOCUMENT
        .lines()
        .filter(|line| line.ends_with("| `conformance` |"))
        .filter_map(|line| line.split('|').nth(1))
        .map(|id| id.trim().to_owned())
        .collect();
    assert_eq!(tested, documented);
}

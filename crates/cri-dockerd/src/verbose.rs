//! What verbose statuses show beside the status (STS-10, RTC-03): one JSON text under `info`, in the
//! shape that people know from containerd (`.info.pid`, `.info.runtimeSpec.process.args`), made of
//! what Docker tells about the container. Pure.
//!
//! Docker keeps no OCI specification; what it was made from is shown in the specification's words,
//! and what Docker does not tell is left out. Environment values are in it, as with other runtimes:
//! who may ask may also exec.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::hub::EngineFacts;
use crate::state::Record;

/// The part of every verbose answer: upstream's two fields.
fn base(record: &Record) -> Map<String, Value> {
    let mut info = Map::new();
    info.insert("sandboxID".to_owned(), record.pod_id().into());
    info.insert("pid".to_owned(), record.pid().unwrap_or_default().into());
    info
}

/// `info` of a sandbox or a container. `inspect` is Docker's whole answer; without one (Docker is
/// busy or away) only what is in memory is shown.
pub(crate) fn of_record(record: &Record, inspect: Option<&Value>) -> BTreeMap<String, String> {
    let mut info = base(record);
    if let Some(inspect) = inspect {
        let host = &inspect["HostConfig"];
        info.insert("runtimeHandler".to_owned(), host["Runtime"].clone());
        info.insert("runtimeType".to_owned(), host["Runtime"].clone());
        info.insert("snapshotter".to_owned(), inspect["Driver"].clone());
        info.insert("image".to_owned(), inspect["Config"]["Image"].clone());
        let config = if record.container().is_some() {
            container_config(record, inspect)
        } else {
            sandbox_config(record, inspect)
        };
        info.insert("config".to_owned(), config);
        info.insert("runtimeSpec".to_owned(), spec(record, inspect));
    }
    BTreeMap::from([("info".to_owned(), Value::Object(info).to_string())])
}

fn metadata(record: &Record) -> Value {
    if record.container().is_some() {
        json!({ "name": record.name.container, "attempt": record.name.attempt })
    } else {
        let name = &record.name;
        json!({ "name": name.pod, "uid": name.uid, "namespace": name.namespace, "attempt": name.attempt })
    }
}

fn sandbox_config(record: &Record, inspect: &Value) -> Value {
    json!({
        "metadata": metadata(record),
        "hostname": inspect["Config"]["Hostname"],
        "labels": record.labels,
        "annotations": record.annotations,
        "linux": {
            "cgroup_parent": inspect["HostConfig"]["CgroupParent"],
            "sysctls": inspect["HostConfig"]["Sysctls"],
            "security_context": { "privileged": inspect["HostConfig"]["Privileged"] },
        },
    })
}

fn container_config(record: &Record, inspect: &Value) -> Value {
    let (config, host) = (&inspect["Config"], &inspect["HostConfig"]);
    let env = |text: &Value| {
        let (key, value) = text.as_str()?.split_once('=')?;
        Some(json!({ "key": key, "value": value }))
    };
    json!({
        "metadata": metadata(record),
        "image": { "image": config["Image"] },
        "command": config["Entrypoint"],
        "args": config["Cmd"],
        "working_dir": config["WorkingDir"],
        "envs": list(&config["Env"]).filter_map(env).collect::<Vec<_>>(),
        "labels": record.labels,
        "annotations": record.annotations,
        "log_path": record.container().map(|facts| facts.log_path.as_str()),
        "stdin": config["OpenStdin"],
        "stdin_once": config["StdinOnce"],
        "tty": config["Tty"],
        "linux": {
            "resources": {
                "cpu_period": host["CpuPeriod"],
                "cpu_quota": host["CpuQuota"],
                "cpu_shares": host["CpuShares"],
                "memory_limit_in_bytes": host["Memory"],
                "memory_swap_limit_in_bytes": host["MemorySwap"],
                "oom_score_adj": host["OomScoreAdj"],
                "cpuset_cpus": host["CpusetCpus"],
                "cpuset_mems": host["CpusetMems"],
            },
            "security_context": {
                "privileged": host["Privileged"],
                "readonly_rootfs": host["ReadonlyRootfs"],
                "capabilities": { "add_capabilities": host["CapAdd"], "drop_capabilities": host["CapDrop"] },
                "masked_paths": host["MaskedPaths"],
                "readonly_paths": host["ReadonlyPaths"],
            },
        },
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The container in the words of the OCI runtime specification.
fn spec(record: &Record, inspect: &Value) -> Value {
    let (config, host) = (&inspect["Config"], &inspect["HostConfig"]);
    let args: Vec<_> = std::iter::once(&inspect["Path"])
        .chain(list(&inspect["Args"]))
        .collect();
    let cwd = config["WorkingDir"]
        .as_str()
        .filter(|cwd| !cwd.is_empty())
        .unwrap_or("/");
    let no_new_privileges = list(&host["SecurityOpt"]).any(|option| {
        option
            .as_str()
            .is_some_and(|text| text.starts_with("no-new-privileges"))
    });
    let mut user = Map::from_iter([("username".to_owned(), config["User"].clone())]);
    if let Some(known) = record.container().and_then(|facts| facts.user.as_ref()) {
        user.insert("uid".to_owned(), known.uid.into());
        user.insert("gid".to_owned(), known.gid.into());
        user.insert(
            "additionalGids".to_owned(),
            known.supplemental_groups.clone().into(),
        );
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": config["Tty"],
            "user": user,
            "args": args,
            "env": config["Env"],
            "cwd": cwd,
            "noNewPrivileges": no_new_privileges,
            "oomScoreAdj": host["OomScoreAdj"],
            "apparmorProfile": inspect["AppArmorProfile"],
            "selinuxLabel": inspect["ProcessLabel"],
        },
        "root": {
            "path": inspect["GraphDriver"]["Data"]["MergedDir"],
            "readonly": host["ReadonlyRootfs"],
        },
        "hostname": config["Hostname"],
        "mounts": list(&inspect["Mounts"]).map(mount).collect::<Vec<_>>(),
        "annotations": config["Labels"],
        "linux": {
            "cgroupsPath": cgroups_path(record, host),
            "namespaces": namespaces(record, host),
            "resources": {
                "memory": { "limit": host["Memory"], "swap": host["MemorySwap"] },
                "cpu": {
                    "shares": host["CpuShares"],
                    "quota": host["CpuQuota"],
                    "period": host["CpuPeriod"],
                    "cpus": host["CpusetCpus"],
                    "mems": host["CpusetMems"],
                },
            },
            "maskedPaths": host["MaskedPaths"],
            "readonlyPaths": host["ReadonlyPaths"],
            "sysctl": host["Sysctls"],
            "mountLabel": inspect["MountLabel"],
        },
    })
}

/// As Docker hands it to the OCI runtime: `parent/id`, or `slice:docker:id`.
fn cgroups_path(record: &Record, host: &Value) -> String {
    let parent = host["CgroupParent"].as_str().unwrap_or_default();
    let id = &record.id;
    if parent.strip_suffix(".slice").is_some() {
        format!("{parent}:docker:{id}")
    } else {
        let parent = if parent.is_empty() { "/docker" } else { parent };
        format!("{}/{id}", parent.trim_end_matches('/'))
    }
}

fn mount(mount: &Value) -> Value {
    let access = if mount["RW"].as_bool().unwrap_or(true) {
        "rw"
    } else {
        "ro"
    };
    let propagation = mount["Propagation"]
        .as_str()
        .filter(|text| !text.is_empty());
    let options: Vec<_> = ["rbind"]
        .into_iter()
        .chain(propagation)
        .chain([access])
        .collect();
    json!({
        "destination": mount["Destination"],
        "type": mount["Type"],
        "source": mount["Source"],
        "options": options,
    })
}

/// The namespaces that the container has of its own; with the process' id their paths are
/// `/proc/PID/ns/...`.
fn namespaces(record: &Record, host: &Value) -> Vec<Value> {
    let pid = record.pid().filter(|pid| *pid > 0);
    let own = |kind: &str, file: &str, mode: &Value| {
        (mode.as_str() != Some("host")).then(|| match pid {
            Some(pid) => json!({ "type": kind, "path": format!("/proc/{pid}/ns/{file}") }),
            None => json!({ "type": kind }),
        })
    };
    let all = [
        own("mount", "mnt", &Value::Null),
        own("network", "net", &host["NetworkMode"]),
        own("uts", "uts", &host["UTSMode"]),
        own("pid", "pid", &host["PidMode"]),
        own("ipc", "ipc", &host["IpcMode"]),
    ];
    all.into_iter().flatten().collect()
}

/// `config` and `docker` of a verbose Status. `sandboxImage` is what kubeadm reads.
pub(crate) fn of_runtime(
    sandbox_image: &str,
    network: &str,
    facts: Option<&EngineFacts>,
) -> BTreeMap<String, String> {
    let config = json!({ "sandboxImage": sandbox_image, "networkPlugin": network });
    let mut info = BTreeMap::from([("config".to_owned(), config.to_string())]);
    if let Some(facts) = facts {
        let docker = json!({
            "id": facts.info.id,
            "version": facts.version,
            "apiVersion": facts.api.to_string(),
            "rootDir": facts.info.docker_root_dir,
            "storageDriver": facts.info.driver,
            "cgroupDriver": facts.info.cgroup_driver,
            "cgroupVersion": facts.info.cgroup_version,
            "kernelVersion": facts.info.kernel_version,
            "securityOptions": facts.info.security_options,
            "runtimes": facts.info.runtimes.0,
            "defaultRuntime": facts.info.default_runtime,
        });
        info.insert("docker".to_owned(), docker.to_string());
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_find_what_they_know_from_containerd() {
        let inspect = json!({
            "Id": "abc", "Name": "/k8s_web_pod_ns_uid_2", "Created": "2024-05-01T10:00:00Z",
            "Path": "sh", "Args": ["-c", "x"],
            "State": { "Running": true, "Pid": 7 },
            "Config": { "Env": ["A=b=c", "BROKEN"], "Image": "busybox", "Labels": {
                "io.kubernetes.docker.type": "container", "io.kubernetes.sandbox.id": "s" } },
            "HostConfig": { "CgroupParent": "a.slice", "Memory": 5, "NetworkMode": "host",
                "SecurityOpt": ["no-new-privileges"] },
            "Mounts": [{ "Type": "bind", "Source": "/h", "Destination": "/c", "RW": false,
                "Propagation": "rslave" }],
        });
        let typed = serde_json::from_value(inspect.clone()).unwrap();
        let record = Record::from_inspect(&typed).unwrap();
        let info = of_record(&record, Some(&inspect));
        let info: Value = serde_json::from_str(&info["info"]).unwrap();
        assert_eq!((&info["pid"], &info["sandboxID"]), (&json!(7), &json!("s")));
        let spec = &info["runtimeSpec"];
        assert_eq!(spec["process"]["args"], json!(["sh", "-c", "x"]));
        assert_eq!(spec["process"]["noNewPrivileges"], json!(true));
        assert_eq!(spec["linux"]["cgroupsPath"], json!("a.slice:docker:abc"));
        assert_eq!(
            spec["mounts"][0]["options"],
            json!(["rbind", "rslave", "ro"])
        );
        let namespaces = list(&spec["linux"]["namespaces"]);
        let kinds: Vec<_> = namespaces
            .map(|namespace| namespace["type"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            ["mount", "uts", "pid", "ipc"],
            "the network is the host's"
        );
        assert_eq!(
            info["config"]["envs"],
            json!([{ "key": "A", "value": "b=c" }])
        );
        assert_eq!(
            info["config"]["metadata"],
            json!({ "name": "web", "attempt": 2 })
        );
        // Without Docker: what is known.
        let short = of_record(&record, None);
        assert_eq!(short["info"], r#"{"sandboxID":"s","pid":7}"#);
    }
}

//! What the node keeps for itself, and how it is kept.

use super::*;

#[test]
fn val_04_enforcement_is_consistent() {
    const FIELD: &str = "enforceNodeAllocatable (--enforce-node-allocatable)";
    let enforce = |levels: &[&str]| json!({"enforceNodeAllocatable": levels, "systemReservedCgroup": "/s", "kubeReservedCgroup": "/k"});
    refused(
        &enforce(&["pods", "system-reserved", "kube-reserved-compressible"]),
        &[],
    );
    refused(&enforce(&["none"]), &[]);
    refused(
        &enforce(&["foo"]),
        &[&format!(
            "option \"foo\" specified for {FIELD}. Valid options are \"pods\", \
             \"system-reserved\", \"system-reserved-compressible\", \"kube-reserved\", \
             \"kube-reserved-compressible\" or \"none\""
        )],
    );
    refused(
        &enforce(&["pods", "pods"]),
        &[&format!("duplicated enforcements \"pods\" in {FIELD}")],
    );
    refused(
        &enforce(&["system-reserved", "system-reserved-compressible"]),
        &[&format!(
            "both \"system-reserved\" and \"system-reserved-compressible\" cannot be specified \
             together in {FIELD}"
        )],
    );
    refused(
        &enforce(&["pods", "none"]),
        &[&format!(
            "{FIELD} may not contain additional enforcements when \"none\" is specified"
        )],
    );
    refused(
        &json!({"enforceNodeAllocatable": ["kube-reserved"]}),
        &[&format!(
            "kubeReservedCgroup (--kube-reserved-cgroup) must be specified when \"kube-reserved\" \
             or \"kube-reserved-compressible\" included in {FIELD}"
        )],
    );
    refused(
        &json!({"cgroupsPerQOS": false}),
        &[&format!(
            "cgroupsPerQOS (--cgroups-per-qos) must be set to true when \"pods\" contained in {FIELD}"
        )],
    );
    refused(
        &json!({"cgroupsPerQOS": false, "enforceNodeAllocatable": ["none"]}),
        &[],
    );
}

#[test]
fn val_05_reserved_cpus_exclude_cgroups() {
    refused(
        &json!({"reservedSystemCPUs": "0", "kubeReservedCgroup": "/k"}),
        &[
            "can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup \
           (--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)",
        ],
    );
    refused(
        &json!({"reservedSystemCPUs": "3-1"}),
        &[
            "unable to parse reservedSystemCPUs (--reserved-cpus) 3-1, error: invalid range \"3-1\" \
           (3 > 1)",
        ],
    );
    refused(
        &json!({"systemCgroups": "/x"}),
        &[
            "systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not \
           specified",
        ],
    );
}

#[test]
fn val_06_topology_and_reserved_memory_are_known() {
    refused(
        &json!({"topologyManagerPolicy": "foo", "topologyManagerScope": "bar"}),
        &[
            "topologyManagerPolicy (--topology-manager-policy) \"foo\" must be one of: [\"none\" \
             \"best-effort\" \"restricted\" \"single-numa-node\"]",
            "topologyManagerScope (--topology-manager-scope) \"bar\" must be one of: \
             \"container\", or \"pod\"",
        ],
    );
    refused(
        &json!({
            "topologyManagerPolicyOptions": {"a": "b"},
            "featureGates": {"TopologyManagerPolicyOptions": false},
        }),
        &[
            "topologyManagerPolicyOptions (--topology-manager-policy-options) requires feature gate \
           TopologyManagerPolicyOptions",
        ],
    );
    refused(
        &json!({"reservedMemory": [
            {"numaNode": 0, "limits": {"cpu": 1, "memory": 0}},
            {"numaNode": 1, "limits": {"memory": "1Gi"}},
            {"numaNode": 1, "limits": {"memory": "x"}},
        ]}),
        &[
            "the limit type \"cpu\" for NUMA node 0 is not supported, only [memory \
             hugepages-<HugePageSize>] is accepted",
            "reserved memory may not be zero for NUMA node 0 and resource \"memory\"",
            "reservedMemory for NUMA node 1 and resource \"memory\": quantities must match the \
             regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            "the reserved memory has a duplicate value for NUMA node 1 and resource \"memory\"",
        ],
    );
    refused(
        &json!({"cpuManagerPolicy": "x", "memoryManagerPolicy": "BestEffort"}),
        &[
            "cpuManagerPolicy (--cpu-manager-policy) \"x\" must be one of: \"none\", or \"static\"",
            "memoryManagerPolicy (--memory-manager-policy) \"BestEffort\" must be one of: \
             \"None\", or \"Static\"",
        ],
    );
}

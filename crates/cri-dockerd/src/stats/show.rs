//! Readings as the CRI shows them. Pure.

use cri_api::v1;
use node_os::cgroups::{Pressure, Stall};
use node_os::proc::InterfaceCounters;

use super::kernel::{PodReading, Reading};
use super::layers::Size;
use crate::clock::now;
use crate::state::Record;

fn value(value: impl Into<Option<u64>>) -> Option<v1::UInt64Value> {
    value.into().map(|value| v1::UInt64Value { value })
}

/// A container. One that doesn't run shows zeros (STT-13); one that runs out of our sight shows
/// times and no figures.
pub(super) fn container(
    record: &Record,
    reading: Option<&Reading>,
    nano_cores: Option<u64>,
    layer: Option<Size>,
) -> v1::ContainerStats {
    let attributes = Some(v1::ContainerAttributes {
        id: record.id.clone(),
        metadata: Some(record.name.container_metadata()),
        labels: record.labels.clone(),
        annotations: record.annotations.clone(),
    });
    let writable_layer = layer.map(|size| v1::FilesystemUsage {
        timestamp: size.at,
        fs_id: Some(v1::FilesystemIdentifier {
            mountpoint: size.file_system,
        }),
        used_bytes: value(size.usage.bytes),
        inodes_used: value(size.usage.inodes),
    });
    let Some(reading) = reading else {
        let zero = (!record.life.is_running()).then_some(v1::UInt64Value { value: 0 });
        return v1::ContainerStats {
            attributes,
            cpu: Some(v1::CpuUsage {
                timestamp: now(),
                usage_core_nano_seconds: zero,
                usage_nano_cores: zero,
                ..Default::default()
            }),
            memory: Some(v1::MemoryUsage {
                timestamp: now(),
                working_set_bytes: zero,
                usage_bytes: zero,
                ..Default::default()
            }),
            writable_layer,
            ..Default::default()
        };
    };
    v1::ContainerStats {
        attributes,
        cpu: Some(cpu(reading, nano_cores)),
        memory: Some(memory(reading)),
        writable_layer,
        swap: swap(reading),
        io: io(reading),
    }
}

/// A pod with its containers (UNI-01).
pub(super) fn pod(
    sandbox: &Record,
    reading: &PodReading,
    nano_cores: Option<u64>,
    containers: Vec<v1::ContainerStats>,
) -> v1::PodSandboxStats {
    let own = reading.own.as_ref();
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: sandbox.id.clone(),
            metadata: Some(sandbox.name.sandbox_metadata()),
            labels: sandbox.labels.clone(),
            annotations: sandbox.annotations.clone(),
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: own.map(|own| cpu(own, nano_cores)),
            memory: own.map(memory),
            network: reading.network.as_ref().map(|all| network(all, reading.at)),
            process: own.map(|own| v1::ProcessUsage {
                timestamp: own.at,
                process_count: value(own.stats.pids),
            }),
            containers,
            io: own.and_then(io),
        }),
        windows: None,
    }
}

fn cpu(reading: &Reading, nano_cores: Option<u64>) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp: reading.at,
        usage_core_nano_seconds: value(reading.stats.cpu_usage_nanos),
        usage_nano_cores: value(nano_cores),
        psi: reading.stats.cpu_pressure.as_ref().map(psi),
    }
}

/// What is available is known only under a limit, as cAdvisor has it.
fn memory(reading: &Reading) -> v1::MemoryUsage {
    let stats = &reading.stats;
    let available = stats
        .memory_limit_bytes
        .zip(stats.memory_working_set_bytes)
        .map(|(limit, used)| limit.saturating_sub(used));
    v1::MemoryUsage {
        timestamp: reading.at,
        working_set_bytes: value(stats.memory_working_set_bytes),
        available_bytes: value(available),
        usage_bytes: value(stats.memory_usage_bytes),
        rss_bytes: value(stats.memory_rss_bytes),
        page_faults: value(stats.page_faults),
        major_page_faults: value(stats.major_page_faults),
        psi: stats.memory_pressure.as_ref().map(psi),
    }
}

fn swap(reading: &Reading) -> Option<v1::SwapUsage> {
    let stats = &reading.stats;
    let used = stats.swap_usage_bytes?;
    let available = stats
        .swap_limit_bytes
        .map(|limit| limit.saturating_sub(used));
    Some(v1::SwapUsage {
        timestamp: reading.at,
        swap_available_bytes: value(available),
        swap_usage_bytes: value(used),
    })
}

fn io(reading: &Reading) -> Option<v1::IoUsage> {
    reading
        .stats
        .io_pressure
        .as_ref()
        .map(|pressure| v1::IoUsage {
            timestamp: reading.at,
            psi: Some(psi(pressure)),
        })
}

/// Totals are the kernel's microseconds: the CRI's comment says nanoseconds, but the kubelet with
/// cAdvisor and the other runtimes hand on what the kernel says.
fn psi(pressure: &Pressure) -> v1::PsiStats {
    let data = |stall: &Stall| v1::PsiData {
        total: stall.total_micros,
        avg10: f64::from(stall.average_10) / 100.0,
        avg60: f64::from(stall.average_60) / 100.0,
        avg300: f64::from(stall.average_300) / 100.0,
    };
    v1::PsiStats {
        full: Some(data(&pressure.full)),
        some: Some(data(&pressure.some)),
    }
}

/// The first interface is the default one.
fn network(interfaces: &[InterfaceCounters], at: i64) -> v1::NetworkUsage {
    let usage = |interface: &InterfaceCounters| v1::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: value(interface.rx_bytes),
        rx_errors: value(interface.rx_errors),
        tx_bytes: value(interface.tx_bytes),
        tx_errors: value(interface.tx_errors),
    };
    v1::NetworkUsage {
        timestamp: at,
        default_interface: interfaces.first().map(usage),
        interfaces: interfaces.iter().skip(1).map(usage).collect(),
    }
}

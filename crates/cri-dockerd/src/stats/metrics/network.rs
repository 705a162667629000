//! Metrics of a pod's network (CMP-18).

use cri_api::v1::MetricType;
use node_os::proc::InterfaceCounters;

use super::metric::{Metric, Values};

/// A pod's interfaces.
pub(super) type Interfaces = Vec<InterfaceCounters>;

const fn network(
    name: &'static str,
    help: &'static str,
    values: fn(&Interfaces) -> Values,
) -> Metric<Interfaces> {
    Metric {
        name,
        help,
        kind: MetricType::Counter,
        labels: &["interface"],
        values,
    }
}

fn each(all: &Interfaces, value: fn(&InterfaceCounters) -> u64) -> Values {
    all.iter()
        .map(|interface| (vec![interface.name.clone()], value(interface)))
        .collect()
}

/// Metrics of pods.
pub(super) const NETWORK: &[Metric<Interfaces>] = &[
    network(
        "container_network_receive_bytes_total",
        "Bytes received",
        |all| each(all, |i| i.rx_bytes),
    ),
    network(
        "container_network_receive_packets_total",
        "Packets received",
        |all| each(all, |i| i.rx_packets),
    ),
    network(
        "container_network_receive_packets_dropped_total",
        "Packets dropped while receiving",
        |all| each(all, |i| i.rx_dropped),
    ),
    network(
        "container_network_receive_errors_total",
        "Errors while receiving",
        |all| each(all, |i| i.rx_errors),
    ),
    network(
        "container_network_transmit_bytes_total",
        "Bytes sent",
        |all| each(all, |i| i.tx_bytes),
    ),
    network(
        "container_network_transmit_packets_total",
        "Packets sent",
        |all| each(all, |i| i.tx_packets),
    ),
    network(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped while sending",
        |all| each(all, |i| i.tx_dropped),
    ),
    network(
        "container_network_transmit_errors_total",
        "Errors while sending",
        |all| each(all, |i| i.tx_errors),
    ),
];

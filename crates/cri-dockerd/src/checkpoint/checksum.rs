//! The checksum of upstream's files: FNV-1a over what Go's `spew` prints of the data (CKP-06).

use std::fmt::Write as _;

use super::data::Data;

/// 32-bit FNV-1a of the dump, widened.
pub(super) fn of(data: &Data) -> u64 {
    u64::from(fnv1a(dump(data).as_bytes()))
}

fn fnv1a(bytes: &[u8]) -> u32 {
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    bytes.iter().fold(OFFSET, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(PRIME)
    })
}

/// The data as `spew.Fprintf("%#v")` shows the Go type, names of Go's types included.
fn dump(data: &Data) -> String {
    let mut out = String::from("(core.CheckpointData){PortMappings:([]*config.PortMapping)");
    if data.port_mappings.is_empty() {
        out.push_str("<nil>");
    } else {
        out.push('[');
        for (i, mapping) in data.port_mappings.iter().enumerate() {
            if i > 0 {
                out.push(' ');
            }
            let protocol = mapping.protocol.as_deref().unwrap_or("<nil>");
            let number = |n: Option<i32>| n.map_or_else(|| "<nil>".to_owned(), |n| n.to_string());
            // Writing to a String can't fail.
            let _ = write!(
                out,
                "<*>{{Protocol:(*config.Protocol){protocol} ContainerPort:(*int32){} \
                 HostPort:(*int32){} HostIP:(string){}}}",
                number(mapping.container_port),
                number(mapping.host_port),
                mapping.host_ip,
            );
        }
        out.push(']');
    }
    let _ = write!(out, " HostNetwork:(bool){}}}", data.host_network);
    out
}

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;

fn capacity() -> Capacity {
    Capacity {
        cpus: 4,
        memory_bytes: 8 * GIB,
        swap_bytes: 0,
        ephemeral_storage_bytes: Some(100 * GIB),
        hugepages: BTreeMap::from([(2 << 20, 1 << 30), (1 << 30, 0)]),
        pods: 110,
        pids: Some(32_768),
    }
}

fn eviction(thresholds: &[(Signal, ThresholdValue, u64)]) -> EvictionSettings {
    EvictionSettings {
        thresholds: thresholds
            .iter()
            .map(|(signal, value, grace)| Threshold {
                signal: *signal,
                value: *value,
                grace_period: Duration::from_secs(*grace),
                min_reclaim: None,
            })
            .collect(),
        pressure_transition_period: Duration::ZERO,
        max_pod_grace_period: None,
        kernel_memcg_notification: false,
        ignored_in_allocatable: false,
    }
}

fn shown(amounts: &Amounts, name: &str) -> String {
    amounts[name].to_string()
}

#[test]
fn capacity_is_shown_as_upstream_shows_it() {
    let amounts = capacity().amounts();
    for (name, text) in [
        ("cpu", "4"),
        ("memory", "8Gi"),
        ("ephemeral-storage", "100Gi"),
        ("hugepages-2Mi", "1Gi"),
        ("hugepages-1Gi", "0"),
        ("pods", "110"),
    ] {
        assert_eq!(shown(&amounts, name), text, "{name}");
    }
    assert_eq!(amounts.len(), 6);
}

#[test]
fn allocatable_is_less_what_is_reserved_and_kept_free() {
    let reservations = [
        Reservation {
            cpu_millicores: 500,
            memory_bytes: GIB,
            ..Reservation::default()
        },
        Reservation {
            cpu_millicores: 100,
            ..Reservation::default()
        },
    ];
    let eviction = eviction(&[
        (
            Signal::MemoryAvailable,
            ThresholdValue::Amount(100 << 20),
            0,
        ),
        (Signal::NodefsAvailable, ThresholdValue::Fraction(0.5), 0),
        // Soft: bears on nothing here.
        (Signal::MemoryAvailable, ThresholdValue::Amount(4 * GIB), 60),
    ]);
    let allocatable = allocatable(&capacity().amounts(), &reservations, &eviction);
    assert_eq!(shown(&allocatable, "cpu"), "3400m");
    // 8 GiB less 1 GiB reserved, 100 MiB kept free and 1 GiB of huge pages.
    assert_eq!(shown(&allocatable, "memory"), "6044Mi");
    assert_eq!(shown(&allocatable, "ephemeral-storage"), "50Gi");
    assert_eq!(shown(&allocatable, "pods"), "110");
}

#[test]
fn reserving_more_than_there_is_names_the_resource() {
    let reservations = [Reservation {
        memory_bytes: 9 * GIB,
        ..Reservation::default()
    }];
    let error = check_reservations(&capacity().amounts(), &reservations, &eviction(&[]));
    assert_eq!(
        error.unwrap_err().to_string(),
        "invalid Node Allocatable configuration. Resource \"memory\" has a reservation of 9Gi \
         but capacity of 8Gi. Expected capacity >= reservation."
    );
    check_reservations(&capacity().amounts(), &[], &eviction(&[])).unwrap();
}

#[test]
fn group_of_all_pods_gets_what_is_not_reserved() {
    let reserved = [Reservation {
        cpu_millicores: 1000,
        memory_bytes: GIB,
        pids: 768,
        ..Reservation::default()
    }];
    let values = capacity().node_values(Some(&reserved));
    assert_eq!(values.cpu_shares, Some(3072));
    assert_eq!(
        values.memory_max_bytes,
        Some(i64::try_from(7 * GIB).unwrap())
    );
    assert_eq!(values.pids_max, Some(32_000));
    let whole = capacity().node_values(None);
    assert_eq!(
        (whole.cpu_shares, whole.pids_max),
        (Some(4096), Some(32_768))
    );
}

#[test]
fn pods_are_bounded_by_cores_where_asked() {
    let limits = |pods_per_core| PodLimits {
        max_pods: 110,
        pods_per_core,
    };
    assert_eq!(pods(limits(None), 4), 110);
    assert_eq!(pods(limits(Some(10)), 4), 40);
    assert_eq!(pods(limits(Some(100)), 4), 110);
}

#[test]
fn hugepages_are_read_and_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(read_hugepages(&dir.path().join("none")).unwrap().is_empty());
    fs::create_dir(dir.path().join("hugepages-2048kB")).unwrap();
    fs::write(dir.path().join("hugepages-2048kB/nr_hugepages"), "512\n").unwrap();
    assert_eq!(
        read_hugepages(dir.path()).unwrap(),
        BTreeMap::from([(2 << 20, 1 << 30)])
    );
}

#[test]
fn this_machine_has_something() {
    let limits = PodLimits {
        max_pods: 110,
        pods_per_core: None,
    };
    let hugepages = Path::new(HUGEPAGES_DIRECTORY);
    let capacity = Capacity::read(&Proc::new(), hugepages, Some(Path::new("/")), limits).unwrap();
    assert!(capacity.cpus > 0 && capacity.memory_bytes > 0 && capacity.pids.is_some());
}

proptest! {
    #[test]
    fn allocatable_is_never_negative_nor_more_than_there_is(
        memory in 0..64 * GIB, cpu in 0..64_000u64, storage in 0..1000 * GIB,
        kept in 0..64 * GIB, fraction in 0.0..1.0f64,
    ) {
        let reserved = [Reservation {
            cpu_millicores: cpu,
            memory_bytes: memory,
            ephemeral_storage_bytes: storage,
            pids: 0,
        }];
        let eviction = eviction(&[
            (Signal::MemoryAvailable, ThresholdValue::Amount(kept), 0),
            (Signal::NodefsAvailable, ThresholdValue::Fraction(fraction), 0),
        ]);
        let capacity = capacity().amounts();
        let allocatable = allocatable(&capacity, &reserved, &eviction);
        for (name, amount) in &allocatable {
            prop_assert!(!amount.is_negative() && *amount <= capacity[name]);
        }
    }
}

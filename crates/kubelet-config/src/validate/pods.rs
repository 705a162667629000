//! Problems of what happens to pods: their end with the machine, swap, restarts, images (VAL-07..09).

use daemon::pflag::{GoDuration, quote};

use super::{Problems, braced};
use crate::config::{ConfigDuration, KubeletConfiguration};
use crate::gates::FeatureGates;

pub(super) fn shutdown(
    config: &KubeletConfiguration,
    gates: &FeatureGates,
    problems: &mut Problems,
) {
    let (all, critical) = (
        config.shutdown_grace_period,
        config.shutdown_grace_period_critical_pods,
    );
    let by_priority = config
        .shutdown_grace_period_by_pod_priority
        .as_ref()
        .is_some_and(|list| !list.is_empty());
    let below_a_second = |period: ConfigDuration| {
        period.0.is_negative() || (!period.is_zero() && period < ConfigDuration::secs(1))
    };
    let some = all.0 > GoDuration::ZERO || critical.0 > GoDuration::ZERO;
    if gates.graceful_node_shutdown {
        problems.add_if(critical > all, || {
            format!(
                "shutdownGracePeriodCriticalPods {} must be <= shutdownGracePeriod {}",
                braced(critical),
                braced(all)
            )
        });
        for (name, period) in [
            ("shutdownGracePeriod", all),
            ("shutdownGracePeriodCriticalPods", critical),
        ] {
            problems.add_if(below_a_second(period), || {
                format!(
                    "{name} {} must be either zero or otherwise >= 1 sec",
                    braced(period)
                )
            });
        }
    } else {
        problems.add_if(some, || {
            "specifying shutdownGracePeriod or shutdownGracePeriodCriticalPods requires feature \
             gate GracefulNodeShutdown"
                .to_owned()
        });
    }
    if gates.graceful_node_shutdown_based_on_pod_priority {
        problems.add_if(by_priority && some, || {
            "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the \
             same time"
                .to_owned()
        });
    } else {
        problems.add_if(by_priority, || {
            "Specifying shutdownGracePeriodByPodPriority requires feature gate \
             GracefulNodeShutdownBasedOnPodPriority"
                .to_owned()
        });
    }
}

pub(super) fn swap_and_restarts(
    config: &KubeletConfiguration,
    gates: &FeatureGates,
    problems: &mut Problems,
) {
    let behavior = config.memory_swap.swap_behavior.as_str();
    if gates.node_swap {
        problems.add_if(!matches!(behavior, "" | "NoSwap" | "LimitedSwap"), || {
            format!(
                "memorySwap.swapBehavior {} must be one of: \"\", \"LimitedSwap\" or \"NoSwap\"",
                quote(behavior)
            )
        });
    } else {
        problems.add_if(!behavior.is_empty(), || {
            "memorySwap.swapBehavior cannot be set when NodeSwap feature flag is disabled"
                .to_owned()
        });
    }
    match config.crash_loop_back_off.max_container_restart_period {
        Some(period) if gates.kubelet_crash_loop_back_off_max => {
            let range = ConfigDuration::secs(1)..=ConfigDuration::secs(300);
            problems.add_if(!range.contains(&period), || {
                // Go prints the seconds as a float.
                #[expect(clippy::cast_precision_loss, reason = "for a message only")]
                let seconds = period.0.as_nanos() as f64 / 1e9;
                format!(
                    "CrashLoopBackOff.MaxContainerRestartPeriod (got: {seconds} seconds) must be \
                     set between 1s and 300s"
                )
            });
        }
        Some(_) => problems.add(
            "FeatureGate KubeletCrashLoopBackOffMax not enabled, \
             CrashLoopBackOff.MaxContainerRestartPeriod must not be set",
        ),
        None => problems.add_if(gates.kubelet_crash_loop_back_off_max, || {
            "FeatureGate KubeletCrashLoopBackOffMax is enabled, \
             CrashLoopBackOff.MaxContainerRestartPeriod must be set"
                .to_owned()
        }),
    }
}

pub(super) fn pulled_images(
    config: &KubeletConfiguration,
    gates: &FeatureGates,
    problems: &mut Problems,
) {
    const POLICIES: [&str; 4] = [
        "NeverVerify",
        "NeverVerifyPreloadedImages",
        "NeverVerifyAllowlistedImages",
        "AlwaysVerify",
    ];
    let policy = config.image_pull_credentials_verification_policy.as_str();
    let list = config
        .preloaded_images_verification_allowlist
        .as_ref()
        .is_some_and(|list| !list.is_empty());
    if gates.kubelet_ensure_secret_pulled_images {
        problems.add_if(!POLICIES.contains(&policy), || {
            let [a, b, c, d] = POLICIES.map(quote);
            format!(
                "option {} specified for imagePullCredentialsVerificationPolicy. Valid options are \
                 {a}, {b}, {c} or {d}",
                quote(policy)
            )
        });
        problems.add_if(list && policy != "NeverVerifyAllowlistedImages", || {
            "can't set `preloadedImagesVerificationAllowlist` if \
             `imagePullCredentialsVertificationPolicy` is not \"NeverVerifyAllowlistedImages\""
                .to_owned()
        });
    } else {
        problems.add_if(!policy.is_empty(), || {
            "`imagePullCredentialsVerificationPolicy` must not be set if \
             KubeletEnsureSecretPulledImages feature gate is not enabled"
                .to_owned()
        });
        problems.add_if(list, || {
            "`preloadedImagesVerificationAllowlist` must not be set if \
             KubeletEnsureSecretPulledImages feature gate is not enabled"
                .to_owned()
        });
    }
}

//! Random histories: what may happen to a node happens, in any order, and after each step what must
//! always hold holds; at the end of each history everything settles, then everything goes.
//!
//! A history follows from its seed alone ([`testkit::Replay`]): the same ones are told each time, on
//! any machine and under any load. `BERTH_HISTORIES_SEED` tells one, and with `BERTH_HISTORIES_COUNT`
//! so many from there. A failure prints seeds and histories.

mod laws;
mod world;

use std::{
    num::NonZeroUsize,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use testkit::{Random, Replay};

use self::world::{World, time};

/// Which, unless the environment says otherwise.
const HISTORIES: Range<u64> = 0..120;
/// Steps of one history.
const STEPS: usize = 24;
/// Broken histories that are printed in full.
const SHOWN: usize = 3;

#[expect(
    clippy::disallowed_methods,
    reason = "a knob of this test, not of the program"
)]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn whatever_happens_the_laws_hold() {
    let seeds = match number("BERTH_HISTORIES_SEED") {
        Some(first) => first..first + number("BERTH_HISTORIES_COUNT").unwrap_or(1),
        None => HISTORIES,
    };
    let next = AtomicU64::new(seeds.start);
    let work = || -> Vec<(u64, String)> {
        let mine = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        mine.take_while(|seed| *seed < seeds.end)
            .filter_map(|seed| Some((seed, tell(seed).err()?)))
            .collect()
    };
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut broken: Vec<(u64, String)> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results = handles.into_iter().map(|handle| handle.join().unwrap());
        results.flatten().collect()
    });
    broken.sort();
    let seeds: Vec<_> = broken.iter().map(|(seed, _)| seed).collect();
    let texts: Vec<_> = broken.iter().map(|(_, text)| text.as_str()).collect();
    assert!(
        broken.is_empty(),
        "{}\n{} histories break a law: {seeds:?}",
        texts[..texts.len().min(SHOWN)].join("\n"),
        texts.len()
    );
}

#[test]
fn a_seed_tells_the_same_history_each_time() {
    for seed in [31, 32] {
        assert_eq!(tell(seed), tell(seed), "seed {seed}");
    }
}

/// `Ok` differs wherever the history does: in what was in the runtime, and when.
fn tell(seed: u64) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let _replay = Replay::begin(seed);
        let mut history = Vec::new();
        let mut random = Random::new(seed);
        let mut world = World::begin(&mut random);
        match live(&mut world, &mut random, &mut history).await {
            Ok(()) => Ok(world.digest()),
            Err(broken) => Err(format!(
                "BERTH_HISTORIES_SEED={seed}: {broken}\nafter:\n  {}\nlast calls:\n  {}",
                history.join("\n  "),
                world.last_calls().join("\n  ")
            )),
        }
    })
}

async fn live(
    world: &mut World,
    random: &mut Random,
    history: &mut Vec<String>,
) -> Result<(), String> {
    for _ in 0..STEPS {
        let at = time();
        let step = world.step(random).await;
        history.push(format!("{at} {step}"));
        world.check()?;
    }
    history.push(format!("{} settle", time()));
    world.settle().await?;
    history.push(format!("{} remove all", time()));
    world.remove_all().await
}

//! What the engine lost under the runtime.

use super::*;

#[tokio::test(start_paused = true)]
async fn gc_11_what_the_engine_lost_of_a_sandbox_is_removed_before_and_after_the_start() {
    let mut bench = Bench::start(&[pod("a", "1", "Always")], ROOM);
    tokio::time::sleep(A_WHILE).await;
    let sandboxes = |bench: &Bench| -> Vec<String> {
        let all = bench.fake.sandboxes();
        all.into_iter().map(|sandbox| sandbox.id).collect()
    };
    let first = sandboxes(&bench);
    bench = bench.restart(ROOM).await;
    bench.life.sweep();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(sandboxes(&bench), first, "nothing is lost yet");

    bench.fake.lose_sandbox(&first[0]);
    tokio::time::sleep(A_WHILE).await;
    let second = sandboxes(&bench);
    assert!(bench.is_running("a") && second.len() == 1 && second != first);

    // While the kubelet is away the pod goes, and the engine loses it.
    let bench = bench
        .restart_after(ROOM, |fake, sets| {
            fake.lose_sandbox(&second[0]);
            sets.send_replace(set(&[]));
        })
        .await;
    bench.life.sweep();
    tokio::time::sleep(A_WHILE).await;
    assert!(bench.fake.sandboxes().is_empty());
    bench.life.end().await;
}

//! `kill -9` of `cove push`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use cove_tests::clients::{Client, Cove};
use cove_tests::{Dice, Image, Proxy, Server, wait_until};

/// What the registry has of an upload is not sent again, in another process either.
#[test]
fn a_killed_push_goes_on_where_it_was() {
    const SIZE: u64 = 12_000_000;
    let mut dice = Dice::from_environment("kill -9 of push");
    let server = Server::start();
    let alice = server.add_user("alice");
    let proxy = Proxy::start(&server.address(), 12_000_000);
    let cove = Cove::new();
    cove.login(&proxy.address(), &alice);
    let mut resumed = 0;
    for round in 0..10 {
        let name = format!("{}/alice/image-{round}:1", proxy.address());
        let id = cove.load(&Image::new(1, SIZE), &name);
        let before = proxy.up();
        let mut process = cove.words(["push", &name]).start(&cove.scratch().join("log"));
        let sent = || proxy.up() - before;
        wait_until("the push has begun to send", Duration::from_secs(60), || sent() > 500_000);
        thread::sleep(Duration::from_millis(dice.within(0..700)));
        process.kill9();
        let first = sent();
        thread::sleep(Duration::from_millis(300)); // what is on its way arrives
        let before = proxy.up();
        let start = Instant::now();
        let digest = cove.push_loaded(&name);
        let second = proxy.up() - before;
        println!("{first} bytes sent before the kill, {second} after it, in {:?}", start.elapsed());
        assert!(first + second < SIZE + 3_000_000, "{first} bytes were sent before the kill, and {second} after it");
        if first > 3_000_000 && second < SIZE - 2_000_000 {
            resumed += 1;
        }
        let served = server.as_user(&alice).pull(&format!("alice/image-{round}"), "1");
        assert_eq!((served.digest, served.config), (digest, id));
        cove.forget(&name);
    }
    assert!(resumed >= 3, "only {resumed} pushes went on in the middle");
    server.check();
    cove.words(["system", "prune", "-f"]).ok();
    assert_eq!(cove.content(), [""; 0], "left in a store without images");
}

/// What a push has compressed before it was killed is not compressed again, and goes with the image if it is never
/// pushed.
#[test]
fn what_a_killed_push_has_compressed_is_kept() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let proxy = Proxy::start(&server.address(), 2_000_000);
    let cove = Cove::new();
    cove.login(&proxy.address(), &alice);
    let name = format!("{}/alice/image:1", proxy.address());
    let id = cove.load(&Image::new(3, 8_000_000), &name);
    let remembered = || fs::read_dir(cove.root().join("compressed")).map_or(0, Iterator::count);
    let blobs = || {
        let files = fs::read_dir(cove.root().join("blobs/sha256")).unwrap().flatten();
        files.map(|file| (file.file_name(), file.metadata().unwrap().ino())).collect::<BTreeMap<_, _>>()
    };
    let before = blobs();
    let kill = || {
        let mut process = cove.words(["push", &name]).start(&cove.scratch().join("log"));
        wait_until("all layers are compressed", Duration::from_secs(60), || remembered() == 3);
        process.kill9();
    };
    kill();
    cove.words(["image", "prune", "-f"]).ok();
    let compressed: BTreeMap<_, _> = blobs().into_iter().filter(|(name, _)| !before.contains_key(name)).collect();
    assert_eq!(compressed.len(), 3);
    proxy.set_rate(0);
    let digest = cove.push_loaded(&name);
    let after = blobs();
    assert!(compressed.iter().all(|(name, inode)| after.get(name) == Some(inode)), "{compressed:?}\n{after:?}");
    assert_eq!(remembered(), 0, "the image's own record names them now");
    let served = server.as_user(&alice).pull("alice/image", "1");
    assert_eq!((served.digest, served.config), (digest, id));
    cove.forget(&name);

    cove.load(&Image::new(3, 8_000_000), &name);
    proxy.set_rate(2_000_000);
    kill();
    cove.forget(&name);
    cove.words(["system", "prune", "-f"]).ok();
    // The registry still has what was uploaded, and so the store its address.
    let left: Vec<_> = cove.content().into_iter().filter(|path| !path.starts_with("uploads/")).collect();
    assert_eq!(left, [""; 0], "left in a store without images");
}

//! Random containers: what is told of each is what docker would tell, and its layer makes of the image what the container
//! shows.

use std::path::Path;

use cove_engine::unpack::OverlayXattr;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::listing::{Listing, assert_same, is_root};
use crate::mounted::Container;
use crate::{oracle, random};

/// A layer has no sockets. The time of its root is not its own.
fn as_image(mut listing: Listing) -> Listing {
    listing.retain(|_, node| node.kind != 's');
    if let Some(root) = listing.get_mut(Path::new("")) {
        root.modified = (0, 0);
    }
    listing
}

fn check(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let overlay = if random.random() { OverlayXattr::Trusted } else { OverlayXattr::User };
    let mut container = Container::with(overlay, |bottom| {
        let steps = random.random_range(0..25);
        random::work(bottom, &mut random, steps);
    });
    for _ in 0..random.random_range(0..3) {
        let steps = random.random_range(1..10);
        random::work(container.root(), &mut random, steps);
        container.next_layer();
    }
    let steps = random.random_range(0..20);
    random::work(container.root(), &mut random, steps);
    container.unmount();
    let seen = container.seen();

    let below = container.below();
    let changes = container.diff();
    let told: std::collections::BTreeMap<_, _> =
        changes.iter().map(|change| (change.path.clone(), change.kind.letter())).collect();
    assert_eq!(told.len(), changes.len(), "nothing is told twice");
    assert!(changes.is_sorted_by(|one, other| one.path < other.path), "in order: {changes:?}");
    assert_eq!(told, oracle::changes(&below, &seen), "what is told");

    let layer = container.layer();
    assert!(layer == container.layer(), "the same folders make the same layer");
    assert_same(&as_image(container.with_layer(&layer)), &as_image(seen));
    if changes.is_empty() && layer.len() > 1024 {
        // Only what docker does not tell: times of folders, attributes.
        let names = crate::cases::names(&layer);
        assert!(!names.is_empty());
    }
}

#[test]
fn a_layer_on_top_of_the_image_shows_what_the_container_shows() {
    if !is_root() {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("COVE_TEST_ROUNDS").unwrap_or(1000);
    let first = number("COVE_TEST_SEED").unwrap_or_else(|| rand::random_range(0..u64::MAX / 2));
    println!("COVE_TEST_SEED={first}");
    for seed in first..first + rounds {
        let checked = std::panic::catch_unwind(|| check(seed));
        assert!(checked.is_ok(), "COVE_TEST_SEED={seed}");
    }
}

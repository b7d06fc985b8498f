//! The least a rule can be: no parameters, no clock; and the key types that the other tests do not use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod signed {
    //! Keys are signed integers; the row's own key may be NULL.
    use retag_sdk::prelude::*;

    #[derive(Row)]
    #[row(table = "test.transfers", key = from)]
    pub(super) struct Transfer {
        pub(super) from: Option<i64>,
        pub(super) to: i64,
    }

    #[derive(Aggregates)]
    pub(super) struct Transfers {
        out: Count,
        into: Count,
    }

    #[derive(Labels, PartialEq, Debug)]
    pub(super) struct Tags {
        pub(super) sender: bool,
        pub(super) receiver: bool,
    }

    #[rule(name = "transfers", entity = "account")]
    impl Transfers {
        fn map_transfer(row: &Transfer, add: &mut Add<Transfers>) {
            add.out.one();
            add.at(row.to).into.one();
        }

        fn label(sums: &Sums<Transfers>) -> Tags {
            Tags { sender: sums.out > 0, receiver: sums.into > 0 }
        }
    }
}

mod bytes {
    //! Keys are bytes, own and computed.
    use retag_sdk::prelude::*;

    #[derive(Row)]
    #[row(table = "test.devices", key = id)]
    pub(super) struct Device<'a> {
        pub(super) id: &'a [u8],
    }

    #[derive(Aggregates)]
    pub(super) struct Devices {
        known: Any,
        prefixes: Count,
    }

    #[derive(Labels, PartialEq, Debug)]
    pub(super) struct Tags {
        pub(super) known: bool,
        pub(super) prefix: bool,
    }

    #[rule(name = "devices", entity = "device")]
    impl Devices {
        fn map_device(row: &Device, add: &mut Add<Devices>) {
            add.known.yes();
            for length in 0..row.id.len() {
                add.at(row.id.split_at(length).0).prefixes.one();
            }
        }

        fn label(sums: &Sums<Devices>, _clock: &Clock) -> Tags {
            Tags { known: sums.known, prefix: sums.prefixes > 0 }
        }
    }
}

use retag_sdk::testing::Harness;

#[test]
fn negative_keys_and_missing_keys() {
    let mut bank = Harness::<signed::Transfers>::new();
    bank.insert(&signed::Transfer { from: Some(-1), to: i64::MIN });
    bank.insert(&signed::Transfer { from: None, to: 5 });
    assert_eq!(bank.labels(-1), signed::Tags { sender: true, receiver: false });
    assert_eq!(bank.labels(i64::MIN), signed::Tags { sender: false, receiver: true });
    assert_eq!(bank.labels(5), signed::Tags { sender: false, receiver: true });
    assert!(signed::native().manifest.contains(r#""params":[]"#));
}

#[test]
fn byte_keys_own_and_computed() {
    let mut devices = Harness::<bytes::Devices>::new();
    devices.insert(&bytes::Device { id: &[255, 0, 1] });
    assert_eq!(devices.labels(&[255, 0, 1]), bytes::Tags { known: true, prefix: false });
    assert_eq!(devices.labels(&[255, 0]), bytes::Tags { known: false, prefix: true });
    assert!(devices.exists(&[]) && !devices.exists(&[0]));
    devices.delete(&bytes::Device { id: &[255, 0, 1] });
    assert!(!devices.exists(&[255, 0]));
    assert!(bytes::native().manifest.contains(r#""key":{"type":"bytes"}"#));
}

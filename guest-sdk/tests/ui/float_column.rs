// A float is no column type.
use retag_sdk::prelude::*;

#[derive(Row)]
#[row(table = "shop.orders", key = user_id)]
struct Order {
    user_id: u64,
    amount: f64,
    mtime: Timestamp,
}

#[derive(Aggregates)]
struct Payer {
    spent: Sum<Decimal<2>>,
}

#[derive(Params)]
struct Params {
    #[param(default = "5000.00")]
    spent_min: Decimal<2>,
}

#[derive(Labels)]
struct Tags {
    spender: bool,
}

#[rule(name = "payer", entity = "user")]
impl Payer {
    fn map_order(order: &Order, add: &mut Add<Payer>) {
        add.spent.add(order.amount);
    }

    fn label(sums: &Sums<Payer>, params: &Params) -> Tags {
        Tags { spender: sums.spent >= params.spent_min }
    }
}

fn main() {}

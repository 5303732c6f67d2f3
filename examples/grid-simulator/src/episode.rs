//! One episode: a warehouse from a seed, played until enough is delivered or time is up.

use crate::policy::{Choice, Policy};
use crate::rng::Rng;
use crate::warehouse::{Action, ROBOTS, Warehouse};

const MAX_STEPS: usize = 35;
const ENOUGH: i64 = 9;

pub struct Summary {
    case: u64,
    returns: Vec<i64>,
    steps: usize,
    collisions: i64,
    delivered: i64,
    checksum: u64,
    trail: String,
}

impl Summary {
    pub fn record(&self) -> String {
        let returns: Vec<String> = self.returns.iter().map(|value| value.to_string()).collect();
        format!(
            "case={} returns={} steps={} collisions={} delivered={} state={:016x} trail={}",
            self.case,
            returns.join(","),
            self.steps,
            self.collisions,
            self.delivered,
            self.checksum,
            self.trail
        )
    }
}

pub fn run(case: u64) -> Summary {
    let mut rng = Rng::new(case);
    let mut world = Warehouse::generate(&mut rng);
    let mut policy = Policy::new();
    let mut returns = vec![0; ROBOTS];
    let mut history: Vec<Vec<Action>> = Vec::new();
    while history.len() < MAX_STEPS && delivered(&world) < ENOUGH {
        let choices: Vec<Choice> = (0..ROBOTS).map(|agent| policy.choose(&world, agent, &mut rng)).collect();
        let actions: Vec<Action> = choices.iter().map(|choice| choice.action).collect();
        let rewards = world.step(&actions);
        for (agent, choice) in choices.iter().enumerate() {
            policy.learn(choice, rewards[agent]);
            returns[agent] += rewards[agent] + choice.value / 100_000;
        }
        world.restock(&mut rng);
        history.push(actions);
    }
    Summary {
        case,
        returns,
        steps: history.len(),
        collisions: world.collisions,
        delivered: delivered(&world),
        checksum: checksum(&world, &policy, &history),
        trail: trail(&history),
    }
}

fn delivered(world: &Warehouse) -> i64 {
    world.robots.iter().map(|robot| robot.delivered).sum()
}

/// The first robot's actions of every other step, a digit each.
fn trail(history: &[Vec<Action>]) -> String {
    history.iter().step_by(2).map(|actions| (actions[0] as i32).to_string()).collect()
}

/// FNV-1a over all that an episode leaves behind: robots, stock, the learned table, every action taken.
fn checksum(world: &Warehouse, policy: &Policy, history: &[Vec<Action>]) -> u64 {
    let mut text = String::new();
    for robot in &world.robots {
        text += &format!("{:?} {} {} {};", robot.pos, robot.battery, robot.carrying, robot.delivered);
    }
    let mut stock: Vec<_> = world.stock.iter().collect();
    stock.sort();
    text += &format!("{stock:?}");
    let mut table: Vec<_> = policy.table.iter().collect();
    table.sort();
    text += &format!("{table:?}");
    for actions in history {
        for &action in actions {
            text += &(action as i32).to_string();
        }
    }
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_repeat_and_are_short() {
        for case in [0, 1, 2, 1 << 30] {
            let record = run(case).record();
            assert_eq!(record, run(case).record());
            assert!((64..=200).contains(&record.len()), "{record}");
        }
    }

    #[test]
    fn robots_deliver() {
        assert!((0..100).map(|case| run(case).delivered).sum::<i64>() > 200);
    }
}

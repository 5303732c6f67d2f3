//! The policy: one step of look-ahead, the way to the goal, and a table of values that learns during the episode.

use crate::paths::distances;
use crate::rng::Rng;
use crate::warehouse::{ACTIONS, Action, BATTERY_LOW, Cell, Pos, Warehouse};
use std::collections::HashMap;

/// All values are thousandths of a reward.
const SCALE: i64 = 1000;
const PER_MOVE: i64 = 700;
const FORBIDDEN: i64 = i64::MIN;

pub struct Policy {
    pub table: HashMap<String, i64>,
}

pub struct Choice {
    pub action: Action,
    pub key: String,
    pub value: i64,
}

impl Policy {
    pub fn new() -> Self {
        Policy { table: HashMap::new() }
    }

    /// The value of every action of one robot, in the order of `ACTIONS`.
    pub fn values(&self, world: &Warehouse, agent: usize, goal: Pos) -> Vec<i64> {
        let field = distances(world, goal);
        let mut values = Vec::new();
        for action in ACTIONS {
            let mut next = world.clone();
            let reward = next.apply(agent, action);
            let pos = next.robots[agent].pos;
            let crowd = next.robots.iter().filter(|other| near(other.pos, pos)).count() as i64 - 1;
            let learned = self.table.get(&key(world, agent, goal, action)).cloned().unwrap_or(0);
            let way = field[pos.1 as usize][pos.0 as usize];
            values.push(reward * SCALE - way * PER_MOVE - crowd * 150 + learned);
        }
        values
    }

    /// The best allowed action, the first of equals; now and then any allowed one.
    pub fn choose(&self, world: &Warehouse, agent: usize, rng: &mut Rng) -> Choice {
        let goal = goal(world, agent);
        let mut values = self.values(world, agent, goal);
        let mask = world.mask(agent);
        for (value, allowed) in values.iter_mut().zip(mask.iter()) {
            if !allowed {
                *value = FORBIDDEN;
            }
        }
        let mut best = 0;
        for index in 0..ACTIONS.len() {
            if values[index] > values[best] {
                best = index;
            }
        }
        if rng.one_in(16) {
            let allowed: Vec<usize> = (0..ACTIONS.len()).filter(|&index| mask[index]).collect();
            best = allowed[rng.below(allowed.len() as u64) as usize];
        }
        Choice { action: ACTIONS[best], key: key(world, agent, goal, ACTIONS[best]), value: values[best] }
    }

    /// Move the table towards the reward that came.
    pub fn learn(&mut self, choice: &Choice, reward: i64) {
        let entry = self.table.entry(choice.key.clone()).or_insert(0);
        *entry += (reward * SCALE - *entry) / 8;
    }
}

/// Where a robot wants to go: a charger when it runs low, a station with a load, else the nearest shelf with stock.
pub fn goal(world: &Warehouse, agent: usize) -> Pos {
    let robot = &world.robots[agent];
    if robot.battery < BATTERY_LOW {
        return nearest(world, agent, world.find(Cell::Charger));
    }
    if robot.carrying {
        return nearest(world, agent, world.find(Cell::Station));
    }
    let filled: Vec<Pos> = world.find(Cell::Shelf).into_iter().filter(|pos| world.stock[pos] > 0).collect();
    if filled.is_empty() { robot.pos } else { nearest(world, agent, filled) }
}

/// The nearest by city blocks, free ones before those where another robot stands; of equals, the first in reading order.
fn nearest(world: &Warehouse, agent: usize, mut places: Vec<Pos>) -> Pos {
    let from = world.robots[agent].pos;
    places.sort_by_key(|&(x, y)| {
        let taken = (x, y) != from && world.robots.iter().any(|other| other.pos == (x, y));
        (taken, (x - from.0).abs() + (y - from.1).abs(), y, x)
    });
    places[0]
}

fn near(a: Pos, b: Pos) -> bool {
    (a.0 - b.0).abs() + (a.1 - b.1).abs() <= 2
}

/// What the table knows of a situation: the robot's state, the direction of its goal, the action.
fn key(world: &Warehouse, agent: usize, goal: Pos, action: Action) -> String {
    let robot = &world.robots[agent];
    let load = if robot.carrying { "loaded" } else { "empty" };
    let (dx, dy) = ((goal.0 - robot.pos.0).signum(), (goal.1 - robot.pos.1).signum());
    format!("{load}/{dx}/{dy}/{}", action as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_allowed() {
        let mut rng = Rng::new(11);
        for seed in 0..50 {
            let world = Warehouse::generate(&mut Rng::new(seed));
            let choice = Policy::new().choose(&world, 1, &mut rng);
            assert!(world.mask(1)[choice.action as usize]);
        }
    }
}

//! The warehouse: a grid, the stock on its shelves, the robots, and what each action does to them.

use crate::rng::Rng;
use std::collections::HashMap;

pub const WIDTH: i32 = 9;
pub const HEIGHT: i32 = 7;
pub const ROBOTS: usize = 3;
pub const BATTERY_FULL: i64 = 40;
pub const BATTERY_LOW: i64 = 12;
const SHELVES: usize = 7;

pub type Pos = (i32, i32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    Floor,
    Pillar,
    Shelf,
    Station,
    Charger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Stay,
    North,
    South,
    West,
    East,
    Pick,
    Drop,
    Charge,
}

pub const ACTIONS: [Action; 8] = [
    Action::Stay,
    Action::North,
    Action::South,
    Action::West,
    Action::East,
    Action::Pick,
    Action::Drop,
    Action::Charge,
];

impl Action {
    pub fn offset(self) -> Pos {
        match self {
            Action::North => (0, -1),
            Action::South => (0, 1),
            Action::West => (-1, 0),
            Action::East => (1, 0),
            _ => (0, 0),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Robot {
    pub pos: Pos,
    pub battery: i64,
    pub carrying: bool,
    pub delivered: i64,
}

#[derive(Clone, Debug)]
pub struct Warehouse {
    pub grid: Vec<Vec<Cell>>,
    pub stock: HashMap<Pos, i64>,
    pub robots: Vec<Robot>,
    pub collisions: i64,
}

impl Warehouse {
    /// Pillars stand on odd coordinates only, so no two of them touch and every cell stays reachable.
    pub fn generate(rng: &mut Rng) -> Self {
        let mut grid = vec![vec![Cell::Floor; WIDTH as usize]; HEIGHT as usize];
        for y in (1..HEIGHT).step_by(2) {
            for x in (1..WIDTH).step_by(2) {
                if rng.one_in(2) {
                    grid[y as usize][x as usize] = Cell::Pillar;
                }
            }
        }
        for (x, y) in [(2, HEIGHT - 1), (6, HEIGHT - 1)] {
            grid[y as usize][x as usize] = Cell::Station;
        }
        for (x, y) in [(0, 0), (WIDTH - 1, 0)] {
            grid[y as usize][x as usize] = Cell::Charger;
        }
        let mut world = Warehouse { grid, stock: HashMap::new(), robots: Vec::new(), collisions: 0 };
        for _ in 0..SHELVES {
            let pos = world.free_floor(rng);
            world.grid[pos.1 as usize][pos.0 as usize] = Cell::Shelf;
            world.stock.insert(pos, 1 + rng.below(2) as i64);
        }
        for _ in 0..ROBOTS {
            let pos = world.free_floor(rng);
            let battery = BATTERY_LOW + 2 + rng.below(12) as i64;
            world.robots.push(Robot { pos, battery, carrying: false, delivered: 0 });
        }
        world
    }

    fn free_floor(&self, rng: &mut Rng) -> Pos {
        loop {
            let pos = (rng.below(WIDTH as u64) as i32, rng.below(HEIGHT as u64) as i32);
            if self.cell(pos) == Some(Cell::Floor) && self.robots.iter().all(|robot| robot.pos != pos) {
                return pos;
            }
        }
    }

    pub fn cell(&self, pos: Pos) -> Option<Cell> {
        let inside = pos.0 >= 0 && pos.0 < WIDTH && pos.1 >= 0 && pos.1 < HEIGHT;
        inside.then(|| self.grid[pos.1 as usize][pos.0 as usize])
    }

    pub fn passable(&self, pos: Pos) -> bool {
        self.cell(pos).is_some_and(|cell| cell != Cell::Pillar)
    }

    pub fn find(&self, wanted: Cell) -> Vec<Pos> {
        let mut found = Vec::new();
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                if self.cell((x, y)) == Some(wanted) {
                    found.push((x, y));
                }
            }
        }
        found
    }

    /// Which actions are allowed to this robot now, in the order of `ACTIONS`.
    pub fn mask(&self, agent: usize) -> Vec<bool> {
        ACTIONS.iter().map(|&action| self.allowed(agent, action)).collect()
    }

    fn allowed(&self, agent: usize, action: Action) -> bool {
        let robot = &self.robots[agent];
        let here = self.cell(robot.pos);
        match action {
            Action::Stay => true,
            Action::Pick => !robot.carrying && self.stock.get(&robot.pos).is_some_and(|&count| count > 0),
            Action::Drop => robot.carrying && here == Some(Cell::Station),
            Action::Charge => here == Some(Cell::Charger) && robot.battery < BATTERY_FULL,
            _ => {
                let target = add(robot.pos, action.offset());
                robot.battery > 0 && self.passable(target) && self.robots.iter().all(|other| other.pos != target)
            }
        }
    }

    /// Let one robot act while the others stand still; returns its reward.
    pub fn apply(&mut self, agent: usize, action: Action) -> i64 {
        if !self.allowed(agent, action) {
            return -10;
        }
        let pos = self.robots[agent].pos;
        let robot = &mut self.robots[agent];
        match action {
            Action::Stay => {
                if robot.battery == 0 {
                    -5
                } else {
                    -2
                }
            }
            Action::Pick => {
                robot.carrying = true;
                *self.stock.get_mut(&pos).expect("a robot picks from a shelf") -= 1;
                15
            }
            Action::Drop => {
                robot.carrying = false;
                robot.delivered += 1;
                60
            }
            Action::Charge => {
                robot.battery = (robot.battery + 8).min(BATTERY_FULL);
                if robot.battery < BATTERY_LOW + 8 { 4 } else { -1 }
            }
            _ => {
                robot.pos = add(pos, action.offset());
                robot.battery -= 1;
                -1
            }
        }
    }

    /// Let all robots act at once. Robots that want the same cell collide: they stay, and pay for it.
    pub fn step(&mut self, actions: &[Action]) -> Vec<i64> {
        let mut wanted: HashMap<Pos, Vec<usize>> = HashMap::new();
        for (agent, action) in actions.iter().enumerate() {
            let target = add(self.robots[agent].pos, action.offset());
            wanted.entry(target).or_default().push(agent);
        }
        let mut rewards = Vec::new();
        for (agent, &action) in actions.iter().enumerate() {
            let target = add(self.robots[agent].pos, action.offset());
            if action.offset() != (0, 0) && wanted[&target].len() > 1 {
                self.collisions += 1;
                self.robots[agent].battery -= 1;
                rewards.push(-20);
            } else {
                rewards.push(self.apply(agent, action));
            }
        }
        rewards
    }

    /// Now and then a shelf is filled up.
    pub fn restock(&mut self, rng: &mut Rng) {
        if rng.one_in(5) {
            let mut shelves: Vec<Pos> = self.stock.keys().cloned().collect();
            shelves.sort();
            let pos = shelves[rng.below(shelves.len() as u64) as usize];
            *self.stock.entry(pos).or_insert(0) += 1;
        }
    }
}

pub fn add(a: Pos, b: Pos) -> Pos {
    (a.0 + b.0, a.1 + b.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_robots_that_want_one_cell_collide_and_stay() {
        let mut world = Warehouse::generate(&mut Rng::new(3));
        (world.robots[0].pos, world.robots[1].pos, world.robots[2].pos) = ((0, 4), (2, 4), (8, 6));
        world.grid[4] = vec![Cell::Floor; WIDTH as usize];
        let rewards = world.step(&[Action::East, Action::West, Action::Stay]);
        assert_eq!(rewards, [-20, -20, -2]);
        assert_eq!((world.robots[0].pos, world.robots[1].pos, world.collisions), ((0, 4), (2, 4), 2));
    }

    #[test]
    fn what_the_mask_forbids_changes_nothing() {
        for seed in 0..50 {
            let world = Warehouse::generate(&mut Rng::new(seed));
            for (action, allowed) in ACTIONS.into_iter().zip(world.mask(0)) {
                let mut next = world.clone();
                let reward = next.apply(0, action);
                assert_eq!(reward == -10, !allowed);
                assert!(allowed || format!("{:?}", next.robots) == format!("{:?}", world.robots));
            }
        }
    }
}

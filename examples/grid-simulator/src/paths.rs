//! Shortest paths: how many moves every cell is away from a goal.

use crate::warehouse::{HEIGHT, Pos, WIDTH, Warehouse, add};
use std::collections::VecDeque;

pub const UNREACHED: i64 = 999;

/// Breadth-first search from the goal over all passable cells; rows of the grid, as the grid has them.
pub fn distances(world: &Warehouse, goal: Pos) -> Vec<Vec<i64>> {
    let mut field = vec![vec![UNREACHED; WIDTH as usize]; HEIGHT as usize];
    let mut queue = VecDeque::new();
    field[goal.1 as usize][goal.0 as usize] = 0;
    queue.push_back(goal);
    while let Some(pos) = queue.pop_front() {
        let next = field[pos.1 as usize][pos.0 as usize] + 1;
        for offset in [(0, -1), (0, 1), (-1, 0), (1, 0)] {
            let neighbour = add(pos, offset);
            if world.passable(neighbour) && field[neighbour.1 as usize][neighbour.0 as usize] > next {
                field[neighbour.1 as usize][neighbour.0 as usize] = next;
                queue.push_back(neighbour);
            }
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::warehouse::Cell;

    #[test]
    fn neighbours_differ_by_one_and_every_cell_is_reached() {
        for seed in 0..50 {
            let world = Warehouse::generate(&mut Rng::new(seed));
            let field = distances(&world, world.find(Cell::Station)[0]);
            for (row, cells) in field.iter().zip(&world.grid) {
                let reached: Vec<bool> = row.iter().map(|&steps| steps != UNREACHED).collect();
                let passable: Vec<bool> = cells.iter().map(|&cell| cell != Cell::Pillar).collect();
                assert_eq!(reached, passable);
                for pair in row.windows(2).filter(|pair| !pair.contains(&UNREACHED)) {
                    assert_eq!((pair[0] - pair[1]).abs(), 1);
                }
            }
        }
    }
}

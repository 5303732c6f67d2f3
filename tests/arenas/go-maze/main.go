// Maze reads case numbers, one per line; it digs a maze from each, measures it, and writes one record per line.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
)

const size = 31

type point struct{ x, y int }

var directions = []point{{0, -1}, {0, 1}, {-1, 0}, {1, 0}}

func next(state *uint64) uint64 {
	*state = *state*6364136223846793005 + 1442695040888963407
	return *state >> 33
}

// dig makes a maze whose open cells form a tree.
func dig(state uint64) map[point]bool {
	open := map[point]bool{{1, 1}: true}
	stack := []point{{1, 1}}
	for len(stack) > 0 {
		here := stack[len(stack)-1]
		choices := []point{}
		for _, d := range directions {
			there := point{here.x + 2*d.x, here.y + 2*d.y}
			if there.x > 0 && there.y > 0 && there.x < size && there.y < size && !open[there] {
				choices = append(choices, d)
			}
		}
		if len(choices) == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		d := choices[next(&state)%uint64(len(choices))]
		open[point{here.x + d.x, here.y + d.y}] = true
		there := point{here.x + 2*d.x, here.y + 2*d.y}
		open[there] = true
		stack = append(stack, there)
	}
	return open
}

// farthest finds the open cell that is the most steps away from the start; of equals, the first that is reached.
func farthest(open map[point]bool) (point, int) {
	distance := map[point]int{{1, 1}: 0}
	queue := []point{{1, 1}}
	last := queue[0]
	for len(queue) > 0 {
		here := queue[0]
		queue = queue[1:]
		if distance[here] > distance[last] {
			last = here
		}
		for _, d := range directions {
			there := point{here.x + d.x, here.y + d.y}
			if _, seen := distance[there]; open[there] && !seen {
				distance[there] = distance[here] + 1
				queue = append(queue, there)
			}
		}
	}
	return last, distance[last]
}

func main() {
	output := bufio.NewWriter(os.Stdout)
	defer output.Flush()
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		number, err := strconv.ParseUint(input.Text(), 10, 31)
		if err != nil {
			fmt.Fprintf(os.Stderr, "maze: a case is an integer from 0 to 2147483647, got %q\n", input.Text())
			os.Exit(2)
		}
		end, steps := farthest(dig(number))
		fmt.Fprintf(output, "%d end=%d,%d steps=%d\n", number, end.x, end.y, steps)
	}
}

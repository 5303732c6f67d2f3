// Reads case numbers, one per line; makes orders from each, groups them, and writes one JSON record per line.
"use strict";

const fs = require("node:fs");

const CASE_LIMIT = 2 ** 31;
const CUSTOMERS = ["ada", "bob", "cyd", "dee", "eli"];
const ORDERS = 60;

function ordersOf(number) {
  let state = number;
  const orders = [];
  for (let index = 0; index < ORDERS; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    orders.push({ id: index, customer: CUSTOMERS[(state >>> 8) % CUSTOMERS.length], cents: (state >>> 12) % 10000 });
  }
  return orders;
}

function totals(orders) {
  // Copied, so that no total is written into somebody's order.
  const copy = JSON.parse(JSON.stringify(orders));
  return CUSTOMERS.map((customer) => ({
    customer,
    cents: copy.filter((order) => order.customer === customer).reduce((sum, order) => sum + order.cents, 0),
    largest: Math.max(0, ...copy.filter((order) => order.customer === customer).map((order) => order.cents)),
  })).sort((a, b) => b.cents - a.cents || (a.customer < b.customer ? -1 : 1));
}

const records = [];
for (const line of fs.readFileSync(0, "utf8").split("\n")) {
  if (line === "") continue;
  const number = Number(line);
  if (!Number.isInteger(number) || number < 0 || number >= CASE_LIMIT) {
    process.stderr.write(`orders: a case is an integer from 0 to ${CASE_LIMIT - 1}, got ${line}\n`);
    process.exit(2);
  }
  records.push(JSON.stringify({ case: number, totals: totals(ordersOf(number)) }) + "\n");
}
fs.writeSync(1, records.join(""));

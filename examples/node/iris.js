// What the worker learns: softmax regression on the measures of irises, as iris.py has it.
'use strict'
const { readFileSync } = require('fs')
const path = require('path')

const SPECIES = ['setosa', 'versicolor', 'virginica']
const LAYOUT = [['weight', [SPECIES.length, 4]], ['bias', [SPECIES.length]]]
const D = 15

// The flowers of one place on the roster: [measures, species] each.
function examples (position, workers) {
  const lines = readFileSync(path.join(__dirname, 'iris.csv'), 'utf8').trim().split('\n').slice(1)
  const own = lines.filter((_, number) => number % 5).filter((_, number) => number % workers === position)
  return own.map(line => line.split(',')).map(values => [
    values.slice(0, 4).map(value => (value - 3) / 2), SPECIES.indexOf(values[4])
  ])
}

// The mean cross entropy at theta, a Float32Array of D values; its gradient is written into `gradient`, if there is one.
function loss (theta, examples, gradient) {
  let sum = 0
  gradient?.fill(0)
  for (const [measures, species] of examples) {
    const scores = SPECIES.map((_, k) => measures.reduce((score, x, j) => score + theta[4 * k + j] * x, theta[12 + k]))
    const largest = Math.max(...scores)
    const powers = scores.map(score => Math.exp(score - largest))
    const total = powers.reduce((a, b) => a + b)
    sum -= scores[species] - largest - Math.log(total)
    if (!gradient) continue
    for (let k = 0; k < SPECIES.length; k++) {
      const slope = (powers[k] / total - (k === species)) / examples.length
      measures.forEach((x, j) => { gradient[4 * k + j] += slope * x })
      gradient[12 + k] += slope
    }
  }
  return sum / examples.length
}

module.exports = { D, LAYOUT, examples, loss }

// Reads simulations as a list of JSON from standard input, and writes what AWS would answer to each: Allowed,
// ExplicitlyDenied, ImplicitlyDenied; or why it cannot be told.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const { runSimulation } = createRequire(process.argv[2])('@cloud-copilot/iam-simulate')

async function answer(simulation) {
  const response = await runSimulation(simulation, {})
  if (response.errors) return `error: ${JSON.stringify(response.errors)}`
  // It passes over what its list of keys does not have for the action, and judges the request without.
  const ignored = response.result?.ignoredContextKeys ?? []
  return ignored.length ? `error: no request of this action has ${ignored}` : response.overallResult
}

const answers = []
for (const simulation of JSON.parse(readFileSync(0, 'utf-8'))) answers.push(await answer(simulation))
process.stdout.write(JSON.stringify(answers))

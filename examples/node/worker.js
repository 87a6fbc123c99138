// A worker of a run, as docs/wire.md describes it. What it learns is in iris.js.
'use strict'
const { createHash, randomUUID } = require('crypto')
const { readFileSync } = require('fs')
const path = require('path')
const { setTimeout: sleep } = require('timers/promises')
const { parseArgs } = require('util')
const grpc = require('@grpc/grpc-js')
const loader = require('@grpc/proto-loader')
const protobuf = require('protobufjs')
const iris = require('./iris')

const { values: options } = parseArgs({
  options: {
    server: { type: 'string', default: 'localhost:7433' },
    tls: { type: 'string', default: 'certificates' }, // the folder with ca.pem, worker-ID.pem and worker-ID.key
    id: { type: 'string', default: 'node' },
    task: { type: 'string', default: 'iris:Iris' }, // as the other members call it
    beta: { type: 'string', default: '0.9' },
    proto: { type: 'string', default: path.join(__dirname, '../../protos/ostrakon/v1/parameter_server.proto') }
  }
})

const PROTOCOL = 3
const CHUNK_BYTES = 1 << 20
const PATIENCE_MS = 300_000 // a call that waits is made again after that
const SILENCE_MS = 86_400_000 // without any answer, after which the run is over
const AGAIN = ['UNAVAILABLE', 'CANCELLED', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED', 'INTERNAL', 'UNKNOWN']
const DENIED = ['PERMISSION_DENIED', 'UNAUTHENTICATED']
const JOIN = ['WRONG_TERM', 'NOT_JOINED']
const ASK = ['WRONG_ROUND', 'WRONG_BASE', 'MODEL_REPLACED']
const GO_ON = ['LATE_SUBMISSION', 'ALREADY_SUBMITTED']
const END = ['WRONG_PROTOCOL', 'WRONG_RUN', 'NO_SESSION', 'OLDER_SESSION',
  'DIFFERENT_TASK', 'DIFFERENT_MODEL', 'DIFFERENT_DIGEST']

// Where the worker stands.
const session = randomUUID()
let run = ''
let term = 0
let twoPhase = true
let round = 0
let base = '' // the digest of the model that the round starts from
let committed = 0 // the last round that is known to be so
let done = 0 // the last round with nothing more to do in
let head = null // of the ledger, as last told
let held = new Map() // models: digest -> bytes
let wanted = '' // the model that the server has lost
let examples = []
let momentum = new Float32Array(iris.D)
let trained = {} // what is submitted, and for which round and model
let ballot = {}

// Calls.

const pem = name => readFileSync(path.join(options.tls, name))
const api = grpc.loadPackageDefinition(
  loader.loadSync(options.proto, { keepCase: true, longs: Number, enums: String, defaults: true })).ostrakon.v1
const Refusal = protobuf.loadSync(options.proto).lookupType('ostrakon.v1.Refusal')
const client = new api.ParameterServer(
  options.server,
  grpc.credentials.createSsl(pem('ca.pem'), pem(`worker-${options.id}.key`), pem(`worker-${options.id}.pem`)),
  {
    'grpc.keepalive_time_ms': 10_000,
    'grpc.keepalive_timeout_ms': 5_000,
    'grpc.initial_reconnect_backoff_ms': 200,
    'grpc.max_reconnect_backoff_ms': 2_000
  })
const stamp = () => ({ protocol: PROTOCOL, run, term, round })
const deadline = () => ({ deadline: Date.now() + PATIENCE_MS })
const digestOf = bytes => createHash('sha256').update(bytes).digest('hex')
const none = sentence => Object.assign(new Error(sentence), { code: grpc.status.INTERNAL }) // no answer: call again

const unary = (method, request) => new Promise((resolve, reject) => {
  client[method](request, deadline(), (error, answer) => error ? reject(error) : resolve(answer))
})

const upload = (method, header, bytes) => new Promise((resolve, reject) => {
  const stream = client[method](deadline(), (error, answer) => error ? reject(error) : resolve(answer))
  stream.write({ stamp: stamp(), header: { ...header, parameters: iris.D, session } })
  for (let offset = 0; offset < bytes.length; offset += CHUNK_BYTES) {
    stream.write({ stamp: stamp(), chunk: { offset, data: bytes.subarray(offset, offset + CHUNK_BYTES) } })
  }
  stream.end()
})

async function models (method, request) { // the header; the models that follow it are held from now on
  let first
  const chunks = []
  for await (const part of client[method]({ stamp: stamp(), holds: [...held.keys()], session, ...request }, deadline())) {
    first ??= part
    if (part.chunk) chunks.push(part.chunk.data)
  }
  check(first.stamp)
  const { follow, parameters } = first.header
  const bytes = Buffer.concat(chunks)
  if (bytes.length !== 4 * parameters * follow.length) throw none('the stream of models has another length')
  follow.forEach((digest, i) => {
    const model = bytes.subarray(4 * parameters * i, 4 * parameters * (i + 1))
    if (digestOf(model) !== digest) throw none('a damaged model came from the server')
    held.set(digest, model)
  })
  return { ...first.header, round: first.stamp.round }
}

function check (stamp) { // an answer counts only if the server that was joined gave it
  if (stamp.protocol !== PROTOCOL || stamp.run !== run || stamp.term !== term) throw none('another server answered')
}

const keep = digests => { held = new Map([...held].filter(([digest]) => digests.includes(digest))) }
const vector = digest => new Float32Array(new Uint8Array(held.get(digest)).buffer)

// Steps: each makes a call and returns the next step, null at the end of the run.

async function join () {
  const answer = await unary('Join', {
    stamp: stamp(),
    session,
    task: options.task,
    parameters: iris.D,
    digest_scheme: 'sha256/float32le',
    head,
    holds: [...held.keys()],
    layout_digest: digestOf(JSON.stringify(iris.LAYOUT)),
    layout: iris.LAYOUT.map(([name, shape]) => ({ name, shape }))
  })
  if (answer.stamp.term < term) throw new Error(`an old server answers: its term is ${answer.stamp.term}, not ${term}`)
  if (answer.wire !== 'WIRE_FLOAT32') throw new Error('this worker sends float32, and the run wants wire = "bf16"')
  if (answer.stamp.term > term) done = committed // what another server was sent and did not commit is lost
  ;({ run, term } = answer.stamp)
  ;({ wanted, two_phase: twoPhase } = answer)
  examples = iris.examples(answer.position, answer.workers)
  return wanted ? restore : receive
}

async function restore () {
  check((await upload('Restore', { base: wanted, digest: wanted }, held.get(wanted))).stamp)
  return join
}

async function receive () {
  const model = await models('Broadcast', { after: done })
  head = model.head
  keep(model.digests)
  return ['RUN_PHASE_COMPLETED', 'RUN_PHASE_DIVERGED'].includes(model.phase) ? null : begin(model.round, model.digests[0])
}

function begin (next, digest) {
  [round, base] = [next, digest]
  committed = done = Math.max(done, round - 1)
  return submit
}

async function submit () {
  if (trained.round !== round || trained.base !== base) train() // once: the same bytes are sent under any term
  check((await upload('SubmitMomentum', trained.header, trained.bytes)).stamp)
  return submitted()
}

function train () {
  const gradient = new Float64Array(iris.D)
  const loss = iris.loss(vector(base), examples, gradient)
  const finite = gradient.every(Number.isFinite)
  if (finite) momentum = momentum.map((m, i) => options.beta * m + (1 - options.beta) * gradient[i])
  const bytes = finite ? Buffer.from(momentum.buffer) : Buffer.alloc(0)
  trained = { round, base, bytes, header: { base, digest: finite ? digestOf(bytes) : '', loss, not_finite: !finite } }
}

function submitted () {
  if (twoPhase) return inspect
  done = round
  return receive
}

async function inspect () {
  const { digests, decided } = await models('Propose')
  if (decided) return adopt(decided, false)
  const [inner, outer] = digests.map(digest => iris.loss(vector(digest), examples))
  const worth = loss => Number.isFinite(loss) ? loss : Infinity
  ballot = { choice: worth(outer) < worth(inner) ? 'CHOICE_OUTER' : 'CHOICE_INNER', inner_loss: inner, outer_loss: outer }
  return vote
}

async function vote () {
  const answer = await unary('Vote', { stamp: stamp(), session, ...ballot })
  check(answer.stamp)
  return adopt(answer.commit, answer.stamp.round === round + 1 && answer.phase === 'RUN_PHASE_COLLECTING')
}

function adopt (commit, begun) { // `begun`: the next round starts from it and takes momenta
  head = commit.head
  keep([commit.digest])
  committed = done = Math.max(done, round)
  return begun && held.has(commit.digest) ? begin(round + 1, commit.digest) : receive
}

// What follows a call that failed, if anything does.

const trailerOf = error => error.metadata?.get('ostrakon-refusal-bin')[0]

function after (error, step) {
  const status = grpc.status[error.code]
  const trailer = trailerOf(error)
  const refusal = trailer && Refusal.toObject(Refusal.decode(trailer), { enums: String })
  const reason = String(refusal?.reason ?? '').replace('REASON_', '')
  if (status === undefined) throw error // no call: this program's own
  if (AGAIN.includes(status)) return step
  if (JOIN.includes(reason) || (step === restore && !END.includes(reason))) return join
  if (ASK.includes(reason) && term) return receive
  if (END.includes(reason) || round === 0 || DENIED.includes(status)) throw error
  if (GO_ON.includes(reason)) return submitted()
  done = round // what was sent is not wanted, and would not be if it were sent again
  return receive
}

async function main () {
  let step = join
  let attempt = 0
  let heard = Date.now()
  while (step) {
    try {
      step = await step()
      attempt = 0
      heard = Date.now()
    } catch (error) {
      const next = after(error, step)
      console.error(`${step.name}: ${error.message}`)
      if (next === step && AGAIN.includes(grpc.status[error.code])) {
        if (error.code === grpc.status.DEADLINE_EXCEEDED || trailerOf(error)) heard = Date.now()
        if (Date.now() - heard > SILENCE_MS) throw new Error('no answer from the server for a day: the run may be over')
        await sleep(Math.min(5000, 100 * 2 ** attempt++) * (0.5 + Math.random() / 2))
      }
      step = next
    }
  }
}

main().then(() => client.close(), error => {
  console.error(`error: ${error.details ?? error.message}`)
  process.exit(2)
})

// Runs collections with the engine of Mojaloop's Testing Toolkit, without its servers: it opens no port.
// Arguments: the directory of the package ml-testing-toolkit, the file with the inputs, the address of the oracle, and
// the collections.  Prints what failed, in lines that begin with `result:`; the exit code is 1 if something did.
'use strict'
const fs = require('fs')
const path = require('path')

async function main ([home, inputs, host, ...collections]) {
  const files = collections.map((file) => path.resolve(file))
  const inputValues = { ...JSON.parse(fs.readFileSync(inputs)).inputValues, HOST_ORACLE: host }
  process.chdir(home) // it reads its settings below the working directory
  const said = console.log
  console.log = () => {}
  const load = (name) => require(path.join(home, 'src', 'lib', name))
  const config = load('config')
  await config.loadSystemConfig()
  await config.loadUserConfig()
  const { OutboundSend } = load('test-outbound/outbound-initiator')
  let failed = 0
  let passed = 0
  for (const file of files) {
    const collection = JSON.parse(fs.readFileSync(file))
    const template = { ...collection, inputValues, options: { breakOnError: false, transformerName: 'none' } }
    const report = await OutboundSend(template, '0'.repeat(32), null, true)
    for (const testCase of report.test_cases) {
      for (const request of testCase.requests) {
        for (const assertion of request.request.tests.assertions) {
          const result = assertion.resultStatus || {}
          if (result.status === 'SUCCESS') passed++
          else {
            failed++
            said(`result: ${testCase.name}: ${request.request.description}: ${assertion.exec.join(' ')}: ${result.message || result.status}`)
          }
        }
      }
    }
  }
  said(`result: ${passed} assertions passed, ${failed} failed`)
  process.exit(failed || !passed ? 1 : 0)
}

main(process.argv.slice(2))

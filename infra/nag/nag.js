// cdk-nag over synthesized templates: node nag.js FOLDER…
// It prints each error that no suppression answers, and exits 1 if there is any. A suppression lies in one resource's Metadata.cdk_nag and
// gives its reason; one that answers nothing is an error too.
'use strict'
const fs = require('fs')
const os = require('os')
const path = require('path')
const { App, Aspects, LegacyStackSynthesizer, Stack } = require('aws-cdk-lib')
const { CfnInclude } = require('aws-cdk-lib/cloudformation-include')
const { AwsSolutionsChecks, NagMessageLevel } = require('cdk-nag')

let errors = 0
const fail = (...words) => { errors++; console.log(...words) }

class Collector {
  constructor () { this.seen = [] }
  onCompliance () {}
  onSuppressed (d) { this.seen.push(d.resource.node.path + ' ' + d.ruleId) }
  onNonCompliance (d) {
    if (d.ruleLevel !== NagMessageLevel.ERROR) return
    fail(`${d.resource.node.path}: ${d.ruleId}${d.findingId ? '[' + d.findingId + ']' : ''}: ${d.ruleInfo}`)
  }
  onNotApplicable () {}
  onError (d) { fail(`${d.resource.node.path}: ${d.ruleId} could not look: ${d.errorMessage}`) }
}

let templates = 0
let reasons = 0
for (const folder of process.argv.slice(2)) {
  const app = new App({ analyticsReporting: false, outdir: fs.mkdtempSync(path.join(os.tmpdir(), 'nag-')) })
  const collector = new Collector()
  const given = []
  for (const file of fs.readdirSync(folder).filter(f => f.endsWith('.template.json')).sort()) {
    const template = JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8'))
    // The references that CDK hands from stack to stack are opaque here, as they are at deployment.
    const name = file.replace('.template.json', '')
    new CfnInclude(new Stack(app, name, { synthesizer: new LegacyStackSynthesizer() }), 'T', { templateFile: path.join(folder, file) })
    templates++
    for (const [id, r] of Object.entries(template.Resources)) {
      for (const s of r.Metadata?.cdk_nag?.rules_to_suppress ?? []) {
        reasons++
        if ((s.reason ?? '').length < 20) fail(`${name}/T/${id}: ${s.id} is suppressed without a reason`)
        given.push(`${name}/T/${id} ${s.id}`)
      }
    }
    if (template.Metadata?.cdk_nag) fail(`${name}: suppresses for a whole stack`)
  }
  Aspects.of(app).add(new AwsSolutionsChecks({ additionalLoggers: [collector], reports: false, verbose: false }))
  app.synth({ skipValidation: true })
  for (const g of given) if (!collector.seen.some(s => s === g)) fail(`${g} is suppressed, but nothing asks for it: remove it`)
  fs.rmSync(app.outdir, { recursive: true })
}
console.log(`cdk-nag: ${templates} templates, ${reasons} suppressions with reasons, ${errors} errors`)
process.exit(errors || templates === 0 ? 1 : 0)

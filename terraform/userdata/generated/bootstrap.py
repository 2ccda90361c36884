#!/usr/bin/env python3
from __future__ import annotations
import base64,gzip,hashlib,hmac,http.server,json,lzma,os,secrets,subprocess,sys,tempfile,time,urllib.error,urllib.request
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
SETTINGS=Path('/etc/exotide/stack.json')
CREDENTIALS=Path('/etc/exotide/credentials')
FIRST_PART=Path('/opt/exotide/bundle.part')
UNPACKED=Path('/opt/exotide/bundle.sha256')
STARTED=Path('/opt/exotide/started.sha256')
REQUIREMENTS=Path('/opt/exotide/requirements.txt')
VENV=Path('/opt/exotide/venv')
STATE=Path('/run/exotide/bootstrap.json')
MARK='#exotide-bundle:'
STATUS_PORT=8091
PAUSES_S=2.,4.,8.,16.,32.
SOON_S=.2,.4,.8,1.6,*PAUSES_S
GRAFANA_KEY_URL='https://apt.grafana.com/gpg.key'
GRAFANA_LIST=Path('/etc/apt/sources.list.d/grafana.list')
GRAFANA_KEY=Path('/etc/apt/keyrings/grafana.asc')
PACKAGES='prometheus','prometheus-node-exporter','python3-venv'
UNITS=*('prometheus','prometheus-node-exporter'),*('exotide-servicediscovery','exotide-autoscaler')
Settings=dict[str,Any]
class Failed(Exception):0
def run(*command,**more):
	done=subprocess.run(command,check=False,text=True,stdout=subprocess.PIPE,stderr=subprocess.STDOUT,**more)
	if done.returncode:say(done.stdout);last=done.stdout.strip().splitlines()[-1:]or['no output'];raise Failed(f"{command[0]} ended with {done.returncode}: {last[0]}")
	return done.stdout
def say(text):print(text,file=sys.stderr,flush=True)
def again(what,attempt,*,pauses_s=PAUSES_S,pause=time.sleep,tell=say):
	for pause_s in pauses_s:
		try:return attempt()
		except(Failed,OSError)as error:tell(f"{what}: {error}; again in {pause_s:g} s")
		pause(pause_s)
	try:return attempt()
	except(Failed,OSError)as error:raise Failed(f"failed {len(pauses_s)+1} times; last: {error}")from error
def write(path,text,mode=420,owner=None):
	path.parent.mkdir(parents=True,exist_ok=True);fresh=path.with_name(f"{path.name}.new");fresh.unlink(missing_ok=True);descriptor=os.open(fresh,os.O_WRONLY|os.O_CREAT|os.O_EXCL,mode)
	with os.fdopen(descriptor,'w',encoding='utf-8')as file:os.fchmod(descriptor,mode);file.write(text)
	if owner:run('chown',owner,str(fresh))
	fresh.replace(path)
def authorization(url,key,secret,expires):message=f"GET {urlsplit(url).path}\n\n\n\n{expires}".encode();digest=hmac.new(secret.encode(),message,hashlib.sha256).digest();signature=base64.b64encode(digest).decode();return f"EXO2-HMAC-SHA256 credential={key},expires={expires},signature={signature}"
def signed_get(url,key,secret):
	header=authorization(url,key,secret,int(time.time())+600);request=urllib.request.Request(url,headers={'Authorization':header})
	try:
		with urllib.request.urlopen(request,timeout=20)as answer:return json.load(answer)
	except urllib.error.HTTPError as error:text=error.read(300).decode('utf-8','replace');raise Failed(f"the API answered {error.code} to GET {urlsplit(url).path}: {text}")from None
def second_part(settings):agent=settings['servicediscovery'];url=f"{settings['endpoint']}/instance-pool/{settings['pool_id']}";return part_in(signed_get(url,agent['key'],agent['secret'])['user-data'])
def part_in(user_data):
	data=base64.b64decode(user_data);text=(gzip.decompress(data)if data[:2]==b'\x1f\x8b'else data).decode();parts=[line for line in text.splitlines()if line.startswith(MARK)]
	if not parts:raise Failed("the pool's user-data has no bundle; apply the stack again")
	return parts[0].removeprefix(MARK)
def unpack(settings):
	wanted=settings['bundle_sha256']
	if UNPACKED.exists()and UNPACKED.read_text()==wanted:return
	bundle=base64.b64decode(FIRST_PART.read_text().strip()+second_part(settings))
	if hashlib.sha256(bundle).hexdigest()!=wanted:raise Failed('the bundle is not the one that this server was made for; apply again')
	for(name,text)in json.loads(lzma.decompress(bundle)).items():write(Path('/',name),text)
	write(UNPACKED,wanted)
def install_packages(settings):
	wanted=[*PACKAGES];wanted.append('grafana'if settings['alerting']=='grafana'else'prometheus-alertmanager');missing=[name for name in wanted if not installed(name)]
	if not missing:return
	if'grafana'in missing:trust_grafana(settings);missing[missing.index('grafana')]=f"grafana={settings['grafana_version']}"
	environment=os.environ|{'DEBIAN_FRONTEND':'noninteractive'};run('apt-get','-q','update',env=environment);keep='-oDpkg::Options::=--force-confold';run(*('apt-get','-qy','install','--no-install-recommends','--allow-downgrades',keep),*missing,env=environment)
def installed(name):query='dpkg-query','--show','--showformat=${db:Status-Status}',name;done=subprocess.run(query,check=False,capture_output=True,text=True);return done.stdout=='installed'
def trust_grafana(settings):
	if not installed('gpg'):run('apt-get','-q','update');run('apt-get','-qy','install','--no-install-recommends','gpg')
	with urllib.request.urlopen(GRAFANA_KEY_URL,timeout=20)as answer:offered=answer.read(100000).decode()
	write(GRAFANA_KEY,trusted_key(offered,settings['grafana_key']));source=f"deb [signed-by={GRAFANA_KEY}] https://apt.grafana.com stable main\n";write(GRAFANA_LIST,source)
def trusted_key(offered,fingerprint):
	with tempfile.TemporaryDirectory()as home:gpg='gpg','--batch','--quiet','--no-autostart','--homedir',home;run(*gpg,'--import',input=offered);key=run(*gpg,'--armor','--export',fingerprint)
	if not key.startswith('-----BEGIN PGP PUBLIC KEY BLOCK-----'):raise Failed(f"Grafana's repository key is not {fingerprint}; do not trust it")
	return key
def install_agents(_):
	stamp,wanted=VENV/'requirements.sha256',hashlib.sha256(REQUIREMENTS.read_bytes())
	if stamp.exists()and stamp.read_text()==wanted.hexdigest():return
	run('python3','-m','venv','--clear',str(VENV));run(*(str(VENV/'bin/python'),'-m','pip','install','--quiet','--no-cache-dir'),*('--disable-pip-version-check','--only-binary=:all:','--require-hashes'),*('--requirement',str(REQUIREMENTS)));write(stamp,wanted.hexdigest())
def configure(settings):
	write(Path('/srv/prometheus/rules/prices.yml'),price_rules(settings['prices']));CREDENTIALS.mkdir(mode=448,parents=True,exist_ok=True);token_file=CREDENTIALS/'webhook-token'
	if not token_file.exists():write(token_file,f"webhook-{secrets.token_hex(24)}",mode=384)
	for agent in('servicediscovery','autoscaler'):write(CREDENTIALS/f"{agent}-key",settings[agent]['key'],mode=384);write(CREDENTIALS/f"{agent}-secret",settings[agent]['secret'],mode=384);lines=''.join(f"{name}={value}\n"for(name,value)in settings[agent]['env'].items());write(Path(f"/etc/exotide/{agent}.env"),lines)
	if settings['alerting']=='grafana':password=CREDENTIALS/'grafana-admin-password';write(password,settings['grafana_password'],mode=384);environment=f"WEBHOOK_TOKEN={token_file.read_text()}\n";write(Path('/etc/exotide/grafana.env'),environment,mode=384);Path('/srv/alertmanager/self.json').unlink(missing_ok=True)
	else:token=Path('/srv/alertmanager/webhook.token');write(token,token_file.read_text(),mode=256,owner='prometheus')
def price_rules(prices):
	if prices is None:return'groups: []\n'
	cost=f"{prices['base']} + {prices['member']} * exotide_autoscaler_pool_size";rule={'record':'exotide:stack:eur_per_hour','expr':cost};return json.dumps({'groups':[{'name':'prices','rules':[rule]}]})+'\n'
def start(settings):
	alerting='grafana-server'if settings['alerting']=='grafana'else'prometheus-alertmanager';units=*UNITS,alerting;wanted=hashlib.sha256(SETTINGS.read_bytes()).hexdigest()
	if STARTED.exists()and STARTED.read_text()==wanted:run('systemctl','start',*units);return
	run('systemd-sysusers');run('systemd-tmpfiles','--create');run('systemctl','enable','--quiet',*units);run('systemctl','restart',*units);write(STARTED,wanted)
def answers(url):
	with urllib.request.urlopen(url,timeout=5)as answer:answer.read(1)
def check(settings):
	urls={'Prometheus':'http://127.0.0.1:9090/-/ready'};urls['autoscaler']=f"http://127.0.0.1:{STATUS_PORT}/livez"
	if settings['alerting']=='grafana':urls['Grafana']='http://127.0.0.1:3000/api/health'
	else:urls['Alertmanager']='http://127.0.0.1:9093/-/ready'
	for(name,url)in urls.items():again(name,partial(answers,url),pauses_s=SOON_S)
STEPS=('unpack the bundle',unpack),('install packages',install_packages),('install the agents',install_agents),('write the configuration',configure),('start the services',start),('check the services',check)
def note(done,now='',error=''):state={'steps':[name for(name,_)in STEPS],'done':done,'now':now,'error':error,'finished':len(done)==len(STEPS)};write(STATE,json.dumps(state))
def bootstrap():
	settings=json.loads(SETTINGS.read_text());done=[];retried={'unpack the bundle','install packages','install the agents'}
	for(name,step)in STEPS:
		say(f"bootstrap: {name}");note(done,now=name)
		if name=='start the services':run('systemctl','stop','exotide-bootstrap-page')
		began_s=time.monotonic();work,tell=partial(step,settings),partial(trouble,done,name)
		try:again(name,work,tell=tell)if name in retried else work()
		except(Failed,OSError,KeyError,ValueError)as error:text=f"there is no {error}"if isinstance(error,KeyError)else str(error);tell(text);run('systemctl','start','--no-block','exotide-bootstrap-page');raise Failed(f"{name}: {text}")from error
		say(f"bootstrap: {name} done in {time.monotonic()-began_s:.1f} s");done.append(name)
	note(done)
def trouble(done,now,text):say(text);note(done,now=now,error=text)
def page(state):
	done,error=state.get('done',[]),escape(state.get('error',''));lines=[]
	for name in state.get('steps',[]):mark='done'if name in done else'now'if name==state.get('now')else'to do';failed=f" - FAILED: {error}"if error and name==state.get('now')else'';lines.append(f"<li>[{mark}] {escape(name)}{failed}</li>")
	hint='It is tried again each minute. More: journalctl -u exotide-bootstrap';return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>exotide starts</title><style>body{{font:16px sans-serif;margin:3rem}}</style><h1>The monitoring server is being set up</h1><ol>{"".join(lines)}</ol><p>{hint}</p>'
class Page(http.server.BaseHTTPRequestHandler):
	server_version,sys_version='exotide',''
	def do_GET(self):state=json.loads(STATE.read_text())if STATE.exists()else{};wants_json=self.path.endswith('.json');body=(json.dumps(state)if wants_json else page(state)).encode();self.send_response(503);kind='application/json'if wants_json else'text/html; charset=utf-8';self.send_header('Content-Type',kind);self.send_header('Content-Length',str(len(body)));self.send_header('Refresh','3');self.end_headers();self.wfile.write(body)
	def log_message(self,*_):0
def show_page():
	try:server=http.server.ThreadingHTTPServer(('',STATUS_PORT),Page)
	except OSError as error:say(f"no page is needed, port {STATUS_PORT} is served: {error.strerror}");return 0
	server.serve_forever();return 0
def main():
	if sys.argv[1:]==['page']:return show_page()
	try:bootstrap()
	except Failed as error:say(f"bootstrap failed: {error}");return 1
	return 0
if __name__=='__main__':raise SystemExit(main())
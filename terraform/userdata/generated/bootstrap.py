#!/usr/bin/env python3
from __future__ import annotations
import base64,gzip,hashlib,hmac,http.server,json,os,secrets,subprocess,sys,tempfile,time,urllib.error,urllib.request
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
def run(*B,**C):
	A=subprocess.run(B,check=False,text=True,stdout=subprocess.PIPE,stderr=subprocess.STDOUT,**C)
	if A.returncode:say(A.stdout);D=A.stdout.strip().splitlines()[-1:]or['no output'];raise Failed(f"{B[0]} ended with {A.returncode}: {D[0]}")
	return A.stdout
def say(text):print(text,file=sys.stderr,flush=True)
def again(what,attempt,*,pauses_s=PAUSES_S,pause=time.sleep,tell=say):
	C=pauses_s;B=attempt
	for D in C:
		try:return B()
		except(Failed,OSError)as A:tell(f"{what}: {A}; again in {D:g} s")
		pause(D)
	try:return B()
	except(Failed,OSError)as A:raise Failed(f"failed {len(C)+1} times; last: {A}")from A
def write(path,text,mode=420,owner=None):
	C=owner;A=path;A.parent.mkdir(parents=True,exist_ok=True);B=A.with_name(f"{A.name}.new");B.unlink(missing_ok=True);D=os.open(B,os.O_WRONLY|os.O_CREAT|os.O_EXCL,mode)
	with os.fdopen(D,'w',encoding='utf-8')as E:os.fchmod(D,mode);E.write(text)
	if C:run('chown',C,str(B))
	B.replace(A)
def authorization(url,key,secret,expires):A=expires;B=f"GET {urlsplit(url).path}\n\n\n\n{A}".encode();C=hmac.new(secret.encode(),B,hashlib.sha256).digest();D=base64.b64encode(C).decode();return f"EXO2-HMAC-SHA256 credential={key},expires={A},signature={D}"
def signed_get(url,key,secret):
	A=url;C=authorization(A,key,secret,int(time.time())+600);D=urllib.request.Request(A,headers={'Authorization':C})
	try:
		with urllib.request.urlopen(D,timeout=20)as E:return json.load(E)
	except urllib.error.HTTPError as B:F=B.read(300).decode('utf-8','replace');raise Failed(f"the API answered {B.code} to GET {urlsplit(A).path}: {F}")from None
def second_part(settings):A=settings;B=A['servicediscovery'];C=f"{A['endpoint']}/instance-pool/{A['pool_id']}";return part_in(signed_get(C,B['key'],B['secret'])['user-data'])
def part_in(user_data):
	A=base64.b64decode(user_data);C=(gzip.decompress(A)if A[:2]==b'\x1f\x8b'else A).decode();B=[A for A in C.splitlines()if A.startswith(MARK)]
	if not B:raise Failed("the pool's user-data has no bundle; apply the stack again")
	return B[0].removeprefix(MARK)
def unpack(settings):
	B=settings;A=B['bundle_sha256']
	if UNPACKED.exists()and UNPACKED.read_text()==A:return
	C=base64.b64decode(FIRST_PART.read_text().strip()+second_part(B))
	if hashlib.sha256(C).hexdigest()!=A:raise Failed('the bundle is not the one that this server was made for; apply again')
	for(D,E)in json.loads(unpacked(C)).items():write(Path('/',D),E)
	write(UNPACKED,A)
def unpacked(bundle):
	if not installed('zpaq'):run('apt-get','-q','update');run('apt-get','-qy','install','--no-install-recommends','zpaq')
	with tempfile.TemporaryDirectory()as A:B=Path(A,'bundle.zpaq');B.write_bytes(bundle);run('zpaq','extract',str(B),'-to',A,'-force');return next(Path(A).rglob('bundle.json')).read_bytes()
def install_packages(settings):
	B=settings;C=[*PACKAGES];C.append('grafana'if B['alerting']=='grafana'else'prometheus-alertmanager');A=[A for A in C if not installed(A)]
	if not A:return
	if'grafana'in A:trust_grafana(B);A[A.index('grafana')]=f"grafana={B['grafana_version']}"
	D=os.environ|{'DEBIAN_FRONTEND':'noninteractive'};run('apt-get','-q','update',env=D);E='-oDpkg::Options::=--force-confold';run(*('apt-get','-qy','install','--no-install-recommends','--allow-downgrades',E),*A,env=D)
def installed(name):A='dpkg-query','--show','--showformat=${db:Status-Status}',name;B=subprocess.run(A,check=False,capture_output=True,text=True);return B.stdout=='installed'
def trust_grafana(settings):
	if not installed('gpg'):run('apt-get','-q','update');run('apt-get','-qy','install','--no-install-recommends','gpg')
	with urllib.request.urlopen(GRAFANA_KEY_URL,timeout=20)as A:B=A.read(100000).decode()
	write(GRAFANA_KEY,trusted_key(B,settings['grafana_key']));C=f"deb [signed-by={GRAFANA_KEY}] https://apt.grafana.com stable main\n";write(GRAFANA_LIST,C)
def trusted_key(offered,fingerprint):
	A=fingerprint
	with tempfile.TemporaryDirectory()as D:B='gpg','--batch','--quiet','--no-autostart','--homedir',D;run(*B,'--import',input=offered);C=run(*B,'--armor','--export',A)
	if not C.startswith('-----BEGIN PGP PUBLIC KEY BLOCK-----'):raise Failed(f"Grafana's repository key is not {A}; do not trust it")
	return C
def install_agents(_):
	A,B=VENV/'requirements.sha256',hashlib.sha256(REQUIREMENTS.read_bytes())
	if A.exists()and A.read_text()==B.hexdigest():return
	run('python3','-m','venv','--clear',str(VENV));run(*(str(VENV/'bin/python'),'-m','pip','install','--quiet','--no-cache-dir'),*('--disable-pip-version-check','--only-binary=:all:','--require-hashes'),*('--requirement',str(REQUIREMENTS)));write(A,B.hexdigest())
def configure(settings):
	A=settings;write(Path('/srv/prometheus/rules/prices.yml'),price_rules(A['prices']));CREDENTIALS.mkdir(mode=448,parents=True,exist_ok=True);C=CREDENTIALS/'webhook-token'
	if not C.exists():write(C,f"webhook-{secrets.token_hex(24)}",mode=384)
	for B in('servicediscovery','autoscaler'):write(CREDENTIALS/f"{B}-key",A[B]['key'],mode=384);write(CREDENTIALS/f"{B}-secret",A[B]['secret'],mode=384);D=''.join(f"{A}={B}\n"for(A,B)in A[B]['env'].items());write(Path(f"/etc/exotide/{B}.env"),D)
	if A['alerting']=='grafana':E=CREDENTIALS/'grafana-admin-password';write(E,A['grafana_password'],mode=384);F=f"WEBHOOK_TOKEN={C.read_text()}\n";write(Path('/etc/exotide/grafana.env'),F,mode=384);Path('/srv/alertmanager/self.json').unlink(missing_ok=True)
	else:G=Path('/srv/alertmanager/webhook.token');write(G,C.read_text(),mode=256,owner='prometheus')
def price_rules(prices):
	A=prices
	if A is None:return'groups: []\n'
	B=f"{A['base']} + {A['member']} * exotide_autoscaler_pool_size";C={'record':'exotide:stack:eur_per_hour','expr':B};return json.dumps({'groups':[{'name':'prices','rules':[C]}]})+'\n'
def start(settings):
	C='grafana-server'if settings['alerting']=='grafana'else'prometheus-alertmanager';A=*UNITS,C;B=hashlib.sha256(SETTINGS.read_bytes()).hexdigest()
	if STARTED.exists()and STARTED.read_text()==B:run('systemctl','start',*A);return
	run('systemd-sysusers');run('systemd-tmpfiles','--create');run('systemctl','enable','--quiet',*A);run('systemctl','restart',*A);write(STARTED,B)
def answers(url):
	with urllib.request.urlopen(url,timeout=5)as A:A.read(1)
def check(settings):
	A={'Prometheus':'http://127.0.0.1:9090/-/ready'};A['autoscaler']=f"http://127.0.0.1:{STATUS_PORT}/livez"
	if settings['alerting']=='grafana':A['Grafana']='http://127.0.0.1:3000/api/health'
	else:A['Alertmanager']='http://127.0.0.1:9093/-/ready'
	for(B,C)in A.items():again(B,partial(answers,C),pauses_s=SOON_S)
STEPS=('unpack the bundle',unpack),('install packages',install_packages),('install the agents',install_agents),('write the configuration',configure),('start the services',start),('check the services',check)
def note(done,now='',error=''):A={'steps':[A for(A,B)in STEPS],'done':done,'now':now,'error':error,'finished':len(done)==len(STEPS)};write(STATE,json.dumps(A))
def bootstrap():
	G=json.loads(SETTINGS.read_text());B=[];H={'unpack the bundle','install packages','install the agents'}
	for(A,I)in STEPS:
		say(f"bootstrap: {A}");note(B,now=A)
		if A=='start the services':run('systemctl','stop','exotide-bootstrap-page')
		J=time.monotonic();D,E=partial(I,G),partial(trouble,B,A)
		try:again(A,D,tell=E)if A in H else D()
		except(Failed,OSError,KeyError,ValueError)as C:F=f"there is no {C}"if isinstance(C,KeyError)else str(C);E(F);run('systemctl','start','--no-block','exotide-bootstrap-page');raise Failed(f"{A}: {F}")from C
		say(f"bootstrap: {A} done in {time.monotonic()-J:.1f} s");B.append(A)
	note(B)
def trouble(done,now,text):say(text);note(done,now=now,error=text)
def page(state):
	A=state;E,C=A.get('done',[]),escape(A.get('error',''));D=[]
	for B in A.get('steps',[]):F='done'if B in E else'now'if B==A.get('now')else'to do';G=f" - FAILED: {C}"if C and B==A.get('now')else'';D.append(f"<li>[{F}] {escape(B)}{G}</li>")
	H='It is tried again each minute. More: journalctl -u exotide-bootstrap';return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>exotide starts</title><style>body{{font:16px sans-serif;margin:3rem}}</style><h1>The monitoring server is being set up</h1><ol>{"".join(D)}</ol><p>{H}</p>'
class Page(http.server.BaseHTTPRequestHandler):
	server_version,sys_version='exotide',''
	def do_GET(A):B=json.loads(STATE.read_text())if STATE.exists()else{};C=A.path.endswith('.json');D=(json.dumps(B)if C else page(B)).encode();A.send_response(503);E='application/json'if C else'text/html; charset=utf-8';A.send_header('Content-Type',E);A.send_header('Content-Length',str(len(D)));A.send_header('Refresh','3');A.end_headers();A.wfile.write(D)
	def log_message(A,*B):0
def show_page():
	try:A=http.server.ThreadingHTTPServer(('',STATUS_PORT),Page)
	except OSError as B:say(f"no page is needed, port {STATUS_PORT} is served: {B.strerror}");return 0
	A.serve_forever();return 0
def main():
	if sys.argv[1:]==['page']:return show_page()
	try:bootstrap()
	except Failed as A:say(f"bootstrap failed: {A}");return 1
	return 0
if __name__=='__main__':raise SystemExit(main())
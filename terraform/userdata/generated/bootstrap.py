#!/usr/bin/env python3
from __future__ import annotations
import base64,gzip,hashlib,hmac,http.server,json,os,secrets,socket,subprocess,sys,tempfile,time,urllib.error,urllib.request
from collections.abc import Callable,Iterable,Iterator
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
NOTICE=Path('/run/exotide/notice')
MARK='#exotide-bundle:'
STATUS_PORT,GRAFANA_PORT=8091,3000
SOON_S=.2,.4,.8,1.6,2.,4.,8.,16.,32.
COMMAND_S=1800
GRAFANA_KEY_URLS='https://apt.grafana.com/gpg-full.key','https://apt.grafana.com/gpg.key'
GRAFANA_LIST=Path('/etc/apt/sources.list.d/grafana.list')
GRAFANA_KEY=Path('/etc/apt/keyrings/grafana.asc')
PACKAGES='prometheus','prometheus-node-exporter','python3-venv'
APT='apt-get','-qy','-oDPkg::Lock::Timeout=600','-oAPT::Update::Error-Mode=any'
REPAIR='dpkg','--configure','-a','--force-confold'
INSTALL=*(*APT,'install','--fix-broken','--no-install-recommends','--allow-downgrades'),'-oDpkg::Options::=--force-confold'
GRAFANA,PAGE='install Grafana','exotide-bootstrap-page'
UNITS=*('prometheus','prometheus-node-exporter'),*('exotide-servicediscovery','exotide-autoscaler')
Settings=dict[str,Any]
class Failed(Exception):0
class Refused(Failed):0
def run(*B,**C):
	D=os.environ|{'DEBIAN_FRONTEND':'noninteractive','LC_ALL':'C.UTF-8'};A=subprocess.run(B,check=False,text=True,errors='replace',stdout=subprocess.PIPE,stderr=subprocess.STDOUT,env=D,timeout=COMMAND_S,**C)
	if A.returncode:say(A.stdout);raise Failed(f"{B[0]} ended with {A.returncode}: {told_by(A.stdout)}")
	return A.stdout
def told_by(output):
	A=output.strip().splitlines()or['no output']
	for(B,C)in enumerate(A):
		if C.startswith(('E: ','dpkg: error')):return' '.join(A.strip()for A in A[B:B+2])
	return A[-1]
def say(text):print(text,file=sys.stderr,flush=True)
def growing_s(longest_s):
	A=2.
	while True:yield A;A=min(2*A,longest_s)
def again(what,attempt,*,pauses_s,pause=time.sleep,tell=say):
	A=attempt
	for B in pauses_s:
		try:return A()
		except Exception as C:tell(f"{what}: {told(C)}; again in {B:g} s")
		pause(B)
	return A()
def told(error):A=error;return str(A)if isinstance(A,Failed)else f"{type(A).__name__}: {A}"
def write(path,text,mode=420,owner=None):
	C=owner;A=path;A.parent.mkdir(parents=True,exist_ok=True);B=A.with_name(f"{A.name}.new");B.unlink(missing_ok=True);D=os.open(B,os.O_WRONLY|os.O_CREAT|os.O_EXCL,mode)
	with os.fdopen(D,'w',encoding='utf-8')as E:os.fchmod(D,mode);E.write(text)
	if C:run('chown',C,str(B))
	B.replace(A)
def authorization(url,key,secret,expires):A=expires;B=f"GET {urlsplit(url).path}\n\n\n\n{A}".encode();C=hmac.new(secret.encode(),B,hashlib.sha256).digest();D=base64.b64encode(C).decode();return f"EXO2-HMAC-SHA256 credential={key},expires={A},signature={D}"
def signed_get(url,key,secret):
	B=authorization(url,key,secret,int(time.time())+600);C=urllib.request.Request(url,headers={'Authorization':B})
	try:
		with urllib.request.urlopen(C,timeout=20)as D:return json.load(D)
	except urllib.error.HTTPError as A:E=f"the API answered {A.code}: {A.read(300).decode('utf-8','replace')}";raise(Refused if A.code in{401,403}else Failed)(E)from None
def second_part(settings):
	A=settings;D=f"{A['endpoint']}/instance-pool/{A['pool_id']}";B=[]
	for C in(A['servicediscovery'],A['autoscaler']):
		try:return part_in(signed_get(D,C['key'],C['secret'])['user-data'])
		except Refused as E:B.append(str(E))
	raise Failed(f"no key of the agents has the right get-instance-pool: {'; '.join(B)}; apply with agents_one_pool = false, or with another agents_key")
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
	if not installed('zpaq'):install('zpaq')
	with tempfile.TemporaryDirectory()as A:B=Path(A,'bundle.zpaq');B.write_bytes(bundle);run('zpaq','extract',str(B),'-to',A,'-force');return next(Path(A).rglob('bundle.json')).read_bytes()
def install_packages(settings):A=[*PACKAGES,'gpg'if settings['alerting']=='grafana'else'prometheus-alertmanager'];install(*(A for A in A if not installed(A)))
def install(*A):
	B=[]
	for D in(REPAIR,(*APT,'update'),(*INSTALL,*A))if A else():
		try:run(*D)
		except Failed as E:B.append(str(E))
	C=[A for A in A if not installed(A.partition('=')[0])]
	if C:raise Failed(f"no {', '.join(C)}: {'; '.join(B)}")
def installed(name):A='dpkg-query','--show','--showformat=${db:Status-Status}',name;B=subprocess.run(A,check=False,capture_output=True,text=True);return B.stdout=='installed'
def install_grafana(settings):
	A=settings
	if not installed('grafana'):
		run('systemctl','start','--no-block',PAGE);write(GRAFANA_KEY,trusted_key(offered_keys(),A['grafana_key']));write(GRAFANA_LIST,f"deb [signed-by={GRAFANA_KEY}] https://apt.grafana.com stable main\n");B=A['grafana_version']
		try:install(f"grafana={B}")
		except Failed as C:
			if'was not found'not in str(C):raise
			install(f"grafana={B.rpartition('.')[0]}.*")
	run('systemctl','stop',PAGE);run('systemctl','enable','--quiet','--now','grafana-server');again('Grafana',partial(answers,f"http://127.0.0.1:{GRAFANA_PORT}/api/health"),pauses_s=SOON_S)
def offered_keys():
	A,B=[],''
	for C in GRAFANA_KEY_URLS:
		try:
			with urllib.request.urlopen(C,timeout=20)as D:A.append(D.read(100000).decode())
		except(OSError,ValueError)as E:B=f"{C}: {E}"
	if not A:raise Failed(B)
	return A
def trusted_key(offered,fingerprint):
	A=fingerprint
	with tempfile.TemporaryDirectory()as E:
		B='gpg','--batch','--quiet','--no-autostart','--homedir',E
		for F in offered:
			try:run(*B,'--import',input=F)
			except Failed as G:say(str(G))
		C=run(*B,'--armor','--export',A)
	D=C.find('-----BEGIN PGP PUBLIC KEY BLOCK-----')
	if D<0:raise Failed(f"no key of Grafana's repository is {A}; do not trust it")
	return C[D:]
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
	A=UNITS
	if settings['alerting']=='alertmanager':A=*UNITS,'prometheus-alertmanager'
	B=hashlib.sha256(SETTINGS.read_bytes()).hexdigest()
	if STARTED.exists()and STARTED.read_text()==B:run('systemctl','start',*A);return
	run('systemd-sysusers');run('systemd-tmpfiles','--create');run('systemctl','enable','--quiet',*A);run('systemctl','restart',*A);write(STARTED,B)
def answers(url):
	with urllib.request.urlopen(url,timeout=5)as A:A.read(1)
def check(settings):
	A={'Prometheus':'http://127.0.0.1:9090/-/ready'};A['autoscaler']=f"http://127.0.0.1:{STATUS_PORT}/livez"
	if settings['alerting']=='alertmanager':A['Alertmanager']='http://127.0.0.1:9093/-/ready'
	for(B,C)in A.items():again(B,partial(answers,C),pauses_s=SOON_S)
	ready()
def ready():
	if(A:=os.environ.get('NOTIFY_SOCKET')):
		with socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)as B:B.sendto(b'READY=1',A.replace('@','\x00',1))
Step=tuple[str,Callable[[Settings],None],float]
STEPS=('unpack the bundle',unpack,60),('install packages',install_packages,60),('install the agents',install_agents,60),('write the configuration',configure,0),('start the services',start,0),('check the services',check,0)
class Progress:
	def __init__(A,steps):A.steps,A.done=list(steps),list[str]()
	def note(A,now='',error=''):B=error;C={'steps':A.steps,'done':A.done,'now':now,'error':B,'finished':A.done==A.steps};write(STATE,json.dumps(C));write(NOTICE,B)
	def trouble(B,now,text):
		A=text
		if now==GRAFANA:A+='; all else works; to do without Grafana: alerting = "alertmanager"'
		say(A);B.note(now,A)
def bootstrap():
	D=json.loads(SETTINGS.read_text());I=D['alerting']=='grafana';E=(*STEPS,(GRAFANA,install_grafana,600))if I else STEPS;B=Progress(A for(A,*B)in E)
	for(A,J,F)in E:
		say(f"bootstrap: {A}");B.note(A)
		if A=='start the services':run('systemctl','stop',PAGE)
		K=time.monotonic();G,H=partial(J,D),partial(B.trouble,A)
		try:
			if F:again(A,G,pauses_s=growing_s(F),tell=H)
			else:G()
		except Exception as C:H(told(C));run('systemctl','start','--no-block',PAGE);raise Failed(f"{A}: {told(C)}")from C
		say(f"bootstrap: {A} done in {time.monotonic()-K:.1f} s");B.done.append(A)
	B.note()
def page(state):
	A=state;E,C=A.get('done',[]),escape(A.get('error',''));D=[]
	for B in A.get('steps',[]):F='done'if B in E else'now'if B==A.get('now')else'to do';G=f" - FAILED: {C}"if C and B==A.get('now')else'';D.append(f"<li>[{F}] {escape(B)}{G}</li>")
	H='It is tried again until it works. More: journalctl -u exotide-bootstrap';return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>exotide starts</title><style>body{{font:16px sans-serif;margin:3rem}}</style><h1>The monitoring server is being set up</h1><ol>{"".join(D)}</ol><p>{H}</p>'
class Page(http.server.BaseHTTPRequestHandler):
	server_version,sys_version='exotide',''
	def do_GET(A):B=A.path.endswith('.json');C=(json.dumps(noted())if B else page(noted())).encode();A.send_response(503);D='application/json'if B else'text/html; charset=utf-8';A.send_header('Content-Type',D);A.send_header('Content-Length',str(len(C)));A.send_header('Refresh','3');A.end_headers();A.wfile.write(C)
	def log_message(A,*B):0
def noted():return dict(json.loads(STATE.read_text()))if STATE.exists()else{}
def show_page():
	A=GRAFANA_PORT if noted().get('now')==GRAFANA else STATUS_PORT
	try:B=http.server.ThreadingHTTPServer(('',A),Page)
	except OSError as C:say(f"no page is needed, port {A} is served: {C.strerror}");return 0
	B.serve_forever();return 0
def main():
	if sys.argv[1:]==['page']:return show_page()
	try:bootstrap()
	except Failed as A:say(f"bootstrap failed: {A}");return 1
	return 0
if __name__=='__main__':raise SystemExit(main())